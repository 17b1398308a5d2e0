"""A manifest to start from, and the schema of all of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from greentic.spec.errors import Conflict, InputOutput
from greentic.spec.manifest import SCHEMA

TEMPLATE = """\
# One file describes an environment. Look:  gtc op env plan -f {name}
#                                Do:    gtc op env apply -f {name}
schema: greentic.env-manifest.v1

environment:
  id: local
  # listen_addr: 127.0.0.1:8080
  # public_base_url: https://bots.example.com

# trust_root: bootstrap

# A secret is named here and its value comes from a variable; it never stands in the file.
# secrets:
#   - path: default/_/openai/api_key
#     from_env: OPENAI_API_KEY

bundles:
  - bundle_id: web
    bundle_path: web-1.gtbundle
    route_binding:
      path_prefixes: [/]
    # Two versions side by side, instead of bundle_path:
    # revisions:
    #   - {{name: stable, bundle_path: web-1.gtbundle, weight_percent: 99}}
    #   - {{name: canary, bundle_path: web-2.gtbundle, weight_percent: 1}}

# messaging_endpoints:
#   - name: help-bot
#     provider_type: messaging.webchat
#     links: [web]
"""


def write_template(path: Path) -> dict[str, Any]:
    """Write a manifest to start from to `path`; Conflict when there is a file already."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        raise Conflict(f"{path} exists already", next_step="name another file") from None
    except OSError as error:
        raise InputOutput(f"{path} cannot be written: {error.strerror}") from None
    with open(descriptor, "w", encoding="utf-8") as file:  # noqa: PTH123 - it is a descriptor
        file.write(TEMPLATE.format(name=path.name))
    return {"manifest_schema": SCHEMA, "template": str(path)}


def schema() -> dict[str, Any]:
    """The JSON Schema of a manifest. What spans its parts is in `spec.manifest_rules`."""
    from greentic.spec import schemas

    return schemas.schema(SCHEMA)
