"""`make fuzz`: the receive functions of all sources, fed by a fuzzer that watches which lines a body reaches.

It mutates what Hypothesis makes bodies from, so that they stay close to what vendors send. Ends with the body that made an
exception leave one of them, or after -max_total_time seconds (`make fuzz SECONDS=600`).
"""

import sys

import atheris
from hypothesis import given, settings, strategies as st

with atheris.instrument_imports(
    include=["roundsman.sources", "roundsman.kit.fields", "roundsman.wire", "roundsman.events"]
):
    from test_fuzz import BODIES, SOURCES, AskedOnly

from roundsman.engine.reception import Reception
from roundsman.webhook import Call
from worlds import START, keeps_the_contract

ASKED = AskedOnly()


@settings(deadline=None, database=None)
@given(name=st.sampled_from(sorted(SOURCES)), body=BODIES)
def one(name: str, body: bytes) -> None:
    mail, _, _ = Reception._understand(ASKED, SOURCES[name], Call(body, {}, START))
    for event in mail.events:
        keeps_the_contract(event)


if __name__ == "__main__":
    atheris.Setup(sys.argv, one.hypothesis.fuzz_one_input)
    atheris.Fuzz()
