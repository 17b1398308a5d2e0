"""One file describes an environment: plan what differs, do exactly that, prove it.

`planning` is pure: a resolved manifest and a recorded environment to ordered steps. `inputs` reads what the plan needs
(files, digests, the record), `performing` carries steps out, `applying` ties them together.
"""
