// The page of the spine: nodes, instances and tasks, live over /ws/console. Plain JavaScript, nothing loaded from elsewhere.
const base = new URL("../", import.meta.url);
const el = (id) => document.getElementById(id);
const state = { nodes: new Map(), instances: new Map(), tasks: new Map() };
const seqs = {};
let socket = null, retry = 0, lastFrame = 0, wanted = false;

const api = async (method, path, body) => {
  const answer = await fetch(new URL("api/v1" + path, base), {
    method, credentials: "same-origin",
    headers: body ? { "Content-Type": "application/json" } : {}, body: body && JSON.stringify(body),
  });
  const data = answer.status === 204 ? null : await answer.json();
  if (!answer.ok) throw Object.assign(new Error(data?.detail ?? `HTTP ${answer.status}`), { status: answer.status });
  return data;
};

// --- formats
const size = (n) => {
  if (n == null) return "";
  for (const unit of ["B", "KiB", "MiB", "GiB"]) { if (n < 1024) return `${n.toFixed(unit === "B" ? 0 : 1)} ${unit}`; n /= 1024; }
  return `${n.toFixed(1)} TiB`;
};
const percent = (n) => (n == null ? "" : `${(n * 100).toFixed(1)} %`);
const since = (text) => {
  if (!text) return "";
  let s = Math.max(0, Math.floor((Date.now() - Date.parse(text)) / 1000));
  if (s < 2) return "now";
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const count = Math.floor(s / length); s -= count * length;
    if (count) parts.push(count + unit);
  }
  return parts.slice(0, 2).join("");
};

// --- rows: cells are text only, so nothing that a node says can become markup
const mark = (word) => { const s = document.createElement("span"); s.className = "mark"; s.dataset.state = word; s.textContent = word; return s; };
const time = (text) => { const s = document.createElement("span"); s.textContent = since(text); if (text) s.title = new Date(text).toString(); return s; };
const rows = {
  nodes: (n) => [n.name, mark(n.state), `${n.os}/${n.arch}`, n.address, [percent(n.metrics?.cpu)], [percent(n.metrics?.memory)], [percent(n.metrics?.disk)], time(n.last_seen), n.version],
  instances: (i) => [`${i.system}/${i.name}`, mark(i.reachable ? i.state : "unknown"), i.node, `${i.package}:${i.version}`, [i.pid ?? ""], time(i.pid && i.started_at), [i.restarts], [i.metrics ? i.metrics.cpu.toFixed(2) : ""], [size(i.metrics?.rss)], { wrap: i.reason }],
  tasks: (t) => [t.kind, t.target, mark(t.state), [`${Math.round(t.progress * 100)} %`], t.created_by, time(t.created_at), { wrap: t.error ?? (t.is_paused ? `paused: ${t.note}` : t.steps.find((s) => s.state === "running" || s.state === "queued")?.message ?? "") }],
};
const order = {
  nodes: (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }),
  instances: (a, b) => `${a.system}/${a.name}`.localeCompare(`${b.system}/${b.name}`, undefined, { numeric: true }),
  tasks: (a, b) => b.created_at.localeCompare(a.created_at),
};
const shown = { nodes: new Map(), instances: new Map(), tasks: new Map() };

const fill = (topic, item, tr) => {
  const cells = rows[topic](item);
  while (tr.cells.length < cells.length) tr.insertCell();
  tr.classList.toggle("stale", item.state === "offline" || item.reachable === false);
  cells.forEach((cell, i) => {
    const td = tr.cells[i];
    if (Array.isArray(cell)) { td.className = "n"; cell = String(cell[0]); }
    else if (cell && cell.wrap !== undefined) { td.className = "wrap"; cell = cell.wrap; }
    if (cell instanceof Node) {
      if (td.firstChild?.isEqualNode?.(cell)) return;
      td.replaceChildren(cell);
    } else if (td.textContent !== String(cell)) td.textContent = cell;
  });
};
const draw = (topic) => {
  const body = el(topic).tBodies[0], items = [...state[topic].values()].sort(order[topic]).slice(0, topic === "tasks" ? 20 : 2000);
  const live = new Set(items.map((i) => i.id));
  for (const [id, tr] of shown[topic]) if (!live.has(id)) { tr.remove(); shown[topic].delete(id); }
  items.forEach((item, i) => {
    let tr = shown[topic].get(item.id);
    if (!tr) { tr = document.createElement("tr"); tr.dataset.id = item.id; shown[topic].set(item.id, tr); }
    if (body.rows[i] !== tr) body.insertBefore(tr, body.rows[i] ?? null);
    fill(topic, item, tr);
  });
  el(`${topic}-empty`).hidden = items.length > 0;
  const words = {};
  for (const item of state[topic].values()) { const w = item.reachable === false ? "unknown" : item.state; words[w] = (words[w] ?? 0) + 1; }
  el(`${topic}-count`).textContent = Object.entries(words).map(([w, n]) => `${n} ${w}`).join(" · ");
};

// --- the socket: snapshot, then changes; a hole in the numbers asks for a snapshot again
const say = (word, text) => { const l = el("live"); l.dataset.state = word; l.textContent = text ?? word; };
const subscribe = (topic) => socket.send(JSON.stringify({ subscribe: topic }));
const frame = (message) => {
  lastFrame = Date.now();
  if (message.hello) { Object.keys(state).forEach(subscribe); return; }
  const { topic, seq } = message, items = state[topic];
  if (message.snapshot) {
    items.clear();
    message.snapshot.forEach((i) => items.set(i.id, i));
  } else {
    if (seqs[topic] === undefined || seq <= seqs[topic]) return;
    if (seq !== seqs[topic] + 1) { seqs[topic] = undefined; subscribe(topic); return; }
    message.changes.forEach((i) => items.set(i.id, i));
    message.gone.forEach((id) => items.delete(id));
    const now = new Date().toISOString();
    for (const [id, metrics] of Object.entries(message.metrics)) {
      const item = items.get(id);
      if (item) { item.metrics = metrics; if (topic === "nodes") item.last_seen = now; }
    }
  }
  seqs[topic] = seq;
  draw(topic);
};
const connect = () => {
  const url = new URL("ws/console", base);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.onopen = () => { retry = 0; say("live", "Live"); el("stale").hidden = true; };
  socket.onmessage = (event) => frame(JSON.parse(event.data));
  socket.onclose = async () => {
    if (!wanted) return;
    const wait = Math.min(500 * 2 ** retry++, 10000) * (0.5 + Math.random() / 2);
    say("reconnecting", "Reconnecting");
    if (lastFrame) { el("stale").hidden = false; el("stale").textContent = `The master does not answer. What you see is from ${new Date(lastFrame).toLocaleTimeString()}.`; }
    setTimeout(async () => { if (wanted && (await isSignedIn())) connect(); }, wait);
  };
};

// --- signing in
const isSignedIn = async () => {
  try { const me = await api("GET", "/me"); el("who").textContent = `${me.name} (${me.role})`; return true; }
  catch (e) {
    if (e.status === 401) { show(false); return false; }
    return wanted; // the master is away: keep trying
  }
};
const show = (signedIn) => {
  wanted = signedIn;
  el("sign-in").hidden = signedIn; el("board").hidden = !signedIn; el("sign-out").hidden = !signedIn; el("docs").hidden = !signedIn;
  if (signedIn) connect(); else { say("stopped", "Signed out"); el("who").textContent = ""; socket?.close(); }
};
el("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  try {
    await api("POST", "/login", { user: form.get("user"), password: form.get("password"), cookie: true });
    el("login-error").hidden = true; event.target.reset();
    await isSignedIn(); show(true);
  } catch (e) { el("login-error").textContent = e.message; el("login-error").hidden = false; }
});
el("sign-out").addEventListener("click", async () => { try { await api("POST", "/logout", {}); } finally { show(false); } });
document.querySelectorAll(".url").forEach((s) => { s.textContent = base.origin + base.pathname.replace(/\/$/, ""); });
setInterval(() => { if (wanted) Object.keys(state).forEach(draw); }, 1000);
if (await isSignedIn()) show(true); else el("sign-in").hidden = false;
