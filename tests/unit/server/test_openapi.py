"""The description of the interface: complete, valid, and true of the server under schemathesis."""

from __future__ import annotations

import re

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from scene import ok

from greentic.server import dialect, openapi
from greentic.server.app import StoreServer
from greentic.spec.verbs import OPERATIONS, VERBS


def described():
    return {(method.upper(), path) for path, methods in openapi.document()["paths"].items() for method in methods}


def test_every_route_is_described_and_every_description_has_a_route(env):
    app = StoreServer(env.desk)
    served = {
        (method, route.path.replace(":path}", "}"))
        for route in app.routes
        for method in route.methods
        if method != "HEAD"
    }
    assert served == described()


def test_every_verb_has_a_path_and_the_words_of_a8_where_it_has_a_route():
    for verb in VERBS:
        assert ("POST", verb.path) in described()
        if verb.route is not None:
            assert (verb.route.method, verb.route.path) in described()
            assert dialect.words(verb.noun, verb.verb)
        else:
            with pytest.raises(KeyError):
                dialect.words(verb.noun, verb.verb)


def test_a8_has_its_forty_four_pairs():
    routes = {(one.route.method, one.route.path) for one in VERBS if one.route is not None}
    routes |= {(one.route.method, one.route.path) for one in OPERATIONS if one.of_a8}
    routes -= {("GET", "/openapi.json")}
    assert len(routes) == 44
    assert len({path for _, path in routes}) == 37


def test_references_lead_somewhere():
    import json

    text = json.dumps(openapi.document())
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert named <= set(openapi.document()["components"]["schemas"])


def test_it_is_served_to_everybody(env):
    assert ok(env.ask("GET", "/openapi.json")) == openapi.document()


schema = schemathesis.openapi.from_dict(openapi.document())
FREE = {path for path, methods in openapi.document()["paths"].items() if path.endswith(("/watch", "/audit"))}


@schema.exclude(path=sorted(FREE)).parametrize()
@settings(
    max_examples=4,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_nothing_that_fits_the_description_is_a_defect(case, server):
    if "environment_id" in (case.path_parameters or {}):
        names = ok(server.ask("GET", "/environments"))["environments"]
        if "local" not in names:
            body = {"env_id": "local", "name": "local", "host_config": {"env_id": "local"}}
            ok(server.ask("POST", "/environments", body))
        case.path_parameters["environment_id"] = "local"
    response = case.call(base_url=server.url.rstrip("/"))
    assert response.status_code < 500 or response.status_code == 501, response.text
    if response.status_code >= 400:
        assert response.json()["kind"]
    assert str(response.status_code) in {"304", "405", *OPEN}, response.status_code


OPEN = {"200", "400", "401", "403", "404", "409", "412", "422", "428", "429", "501", "503"}
