"""Getting releases here and changing over to them: one instance's downloads, staging beside the present one, switch."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from gdos.model.errors import GdosError, StorageFull
from gdos.model.states import Event, State
from gdos.model.wanted import Release, Wanted
from gdos.pack.zipguard import Cancelled
from gdos.worker.executor import hooks
from gdos.worker.executor.describe import describe_error
from gdos.worker.executor.fetch import Refused
from gdos.worker.executor.launch import Start, prepare
from gdos.worker.executor.release import Means, bring

if TYPE_CHECKING:
    from gdos.worker.executor.instance import Instance

log = logging.getLogger(__name__)
RETRY_S, RETRY_MAX_S = 1.0, 30.0
RELEASES_KEPT = 3
NEVER = float("inf")


class Fetching:
    """Owner thread only. A part of its instance."""

    def __init__(self, instance: Instance) -> None:
        self._i = instance
        self.fetched = instance.folder.fetched()
        self.next_try = 0.0  # of a download, monotonic; NEVER: not before another wish
        self.staged_error = ""
        self._tries = 0
        self._cancel = threading.Event()
        self._staging = ""  # SHA-256 under way beside the present release
        self._stage_again = 0.0

    # --- the wanted release

    def fetch(self, want: Wanted) -> None:
        i = self._i
        if "deploy" not in i.around.allow:
            self.next_try = NEVER
            self._failed(f"this worker does not allow deploy (--allow {','.join(sorted(i.around.allow))})", final=True)
            i.reconcile()
            return
        if i.record.state not in (State.DEPLOYING, State.UPGRADING):
            event = Event.UPGRADE if i.record.current else Event.DEPLOY
            i.to(event, f"fetches {want.release.package} {want.release.version}")
        self._cancel = threading.Event()
        stop, means = self._cancel, self._means()
        i.in_pool(lambda: bring(want.release, i.folder, means, stop), lambda _, error: self._done(want, error))

    def _means(self) -> Means:
        return Means(self._i.around.cache, self._i.around.source(), self._i.around.system)

    def _done(self, want: Wanted, error: Exception | None) -> None:
        self.fetched = self._i.folder.fetched()
        self.next_try = 0.0
        if error is None:
            self._tries = 0
        elif isinstance(error, Cancelled):
            self._failed("no longer wanted", final=False)
        elif is_final(error):
            self.next_try = NEVER
            self._failed(describe_error(error), final=True)
        else:
            if isinstance(error, StorageFull):
                self._i.around.cache.make_room({want.release.sha256})
            wait = min(RETRY_S * 2.0 ** min(self._tries, 10), RETRY_MAX_S)
            self._tries += 1
            self.next_try = self._i.around.loop.now() + wait
            self._failed(f"{describe_error(error)}; tried again in {wait:.0f} s", final=False)

    def _failed(self, reason: str, *, final: bool) -> None:
        i = self._i
        is_upgrade = i.record.state is State.UPGRADING
        if final and is_upgrade and i.record.handle is not None:
            i.to(Event.KEPT, f"the upgrade failed, the old version runs on: {reason}")
        elif final:
            i.to(Event.GIVE_UP, reason)
        elif is_upgrade:
            i.note(reason)
        else:
            i.to(Event.RETRY, reason)

    def cancel(self, want: Wanted) -> None:
        self._cancel.set()

    # --- a release beside the present one

    def stage(self, want: Wanted) -> None:
        """Have `want.staged` ready, in the background: the instance itself does not notice."""
        release = want.staged
        if release is None or self._staging or self._i.around.loop.now() < self._stage_again:
            return
        if release.sha256 in self.fetched:
            return
        i, means, stop = self._i, self._means(), threading.Event()
        self._staging = release.sha256
        i.around.run(lambda: bring(release, i.folder, means, stop), lambda _, error: self._staged(release, error))

    def _staged(self, release: Release, error: Exception | None) -> None:
        self._staging = ""
        self.fetched = self._i.folder.fetched()
        self.staged_error = "" if error is None else describe_error(error)
        if error is not None:
            wait = RETRY_MAX_S if is_final(error) else RETRY_S
            self._stage_again = self._i.around.loop.now() + wait
            self._i.around.loop.call_later(wait, self._i.reconcile)
        self._i.report("staged" if error is None else "")
        self._i.reconcile()

    def staged(self, want: Wanted | None) -> str:
        """SHA-256 of what was to be staged, once it is there."""
        release = want.staged if want is not None else None
        return release.sha256 if release is not None and release.sha256 in self.fetched else ""

    # --- changing over

    def clear(self, want: Wanted) -> None:
        """The pre_upgrade hook of the new release has the word while the old one still runs."""
        i = self._i
        node, start = i.around.node(), Start(i.record.launches, i.folder.log(i.record.log), is_running=True)

        def work() -> None:
            launch = prepare(want, i.folder, node, start)
            if "pre_upgrade" in launch.hooks:
                hooks.run(launch.hooks["pre_upgrade"], i.around.system)

        i.in_pool(work, lambda _, error: self._cleared(want, error))

    def _cleared(self, want: Wanted, error: Exception | None) -> None:
        i = self._i
        if error is None:
            i.record.cleared = want.release.sha256
            i.save()
            return
        i.record.refused = want.revision
        i.note(f"the upgrade is called off, the old version stays: {describe_error(error)}")

    def switch(self, want: Wanted) -> None:
        """The wanted release becomes the current one; what is too old goes."""
        i = self._i
        keep = {want.release.sha256, i.record.current} - {""}
        i.record.switched = bool(i.record.current)
        i.record.current = want.release.sha256
        i.launch = None
        i.record.tries = 0
        try:
            i.folder.make()
            i.folder.point_current(want.release.sha256)
            i.folder.prune(keep, RELEASES_KEPT)
        except OSError as e:
            log.warning("%s: %s", i.record.name, describe_error(e))
        self.fetched = i.folder.fetched()
        i.untry(want)  # another release is always started, if it is to run
        if i.record.state is State.PENDING:
            i.to(Event.DEPLOY)
        if i.record.state in (State.DEPLOYING, State.UPGRADING):
            i.to(Event.DEPLOYED, f"{want.release.package} {want.release.version} is here")
        else:
            i.save()
        i.follow_schedule()
        i.reconcile()


def is_final(error: Exception) -> bool:
    """However often it is tried, it will not run here."""
    return isinstance(error, Refused) or (isinstance(error, GdosError) and error.code == "bad_package")
