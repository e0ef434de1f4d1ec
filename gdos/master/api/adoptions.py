"""Adopting what runs already."""

from __future__ import annotations

from gdos.master.api import shapes as s
from gdos.master.api import shapes_plan as p
from gdos.master.api.router import OPERATOR, Call, Router
from gdos.master.services import adoptions
from gdos.model import systemfile

api = Router()


@api.add("GET", "/nodes/{id}/candidates", OPERATOR, returns=list[p.CandidateView])
def candidates(call: Call) -> object:
    """What runs on a node and could be adopted."""
    return adoptions.candidates(call.ctx, call.args["id"])


@api.add("POST", "/nodes/{id}/matches", OPERATOR, body=p.MatchNew, returns=p.Matched)
def match(call: Call) -> object:
    """What a description would adopt on a node: none, one, or those among which it cannot decide."""
    return adoptions.test(call.ctx, call.args["id"], systemfile.external_of("test", call.body.external))


@api.add("POST", "/adoptions", OPERATOR, body=p.AdoptionNew, returns=s.Task, status=202)
def adopt(call: Call) -> object:
    """Bring a service that runs already under care; destroying the record leaves it alone."""
    b = call.body
    external = systemfile.external_of(b.module, b.external)
    return adoptions.adopt(call.ctx, call.who, adoptions.Adopt(b.system, b.module, b.node, external))
