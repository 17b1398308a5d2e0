"""Arguments, signals, the exit status."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from pathlib import Path

from demo.commands import CommandFailed
from demo.screen import Screen
from demo.state import State, StateError, answers
from demo.story import SHORT, Size, Story

REPOSITORY = Path(__file__).resolve().parents[2]


def main() -> int:
    """Run the demo. 0 when every promise held, 1 when one did not, 130 after Ctrl-C."""
    arguments = _arguments()
    state = State(arguments.folder.absolute(), REPOSITORY)
    screen = Screen()
    try:
        with state.alone():
            if arguments.stop:
                return _stop(state, screen)
            return _demo(state, screen, SHORT if arguments.short else Size(), keep=arguments.keep)
    except StateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make demo", description="Two versions, a dial, an instant undo.")
    parser.add_argument("--keep", action="store_true", help="leave it running and say how to play with it")
    parser.add_argument("--short", action="store_true", help="fewer requests and moves")
    parser.add_argument("--stop", action="store_true", help="stop what --keep left running and remove it")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".demo", help="where its state is [.demo]")
    return parser.parse_args()


def _stop(state: State, screen: Screen) -> int:
    if not state.left():
        screen.plain("no demo is left to stop")
        return 0
    state.stop()
    state.remove()
    screen.plain("the demo is stopped and its folder removed")
    return 0


def _demo(state: State, screen: Screen, size: Size, *, keep: bool) -> int:
    began = time.monotonic()
    if state.left():
        screen.plain("an earlier demo was left here; stopping it first")
        state.stop()
        state.remove()
    state.make()
    story = Story(state, screen, size)
    interrupted = False
    kept = False
    try:
        with asyncio.Runner() as runner:
            runner.run(_until_signalled(story))
        kept = keep
    except (KeyboardInterrupt, asyncio.CancelledError):
        interrupted = True
    except CommandFailed as failure:
        story.broken.append(str(failure))
    except Exception as error:
        story.broken.append(f"the demo itself failed: {type(error).__name__}: {error}")
        raise
    finally:
        if not kept:
            _end(story, screen, interrupted=interrupted)
    if interrupted:
        return 130
    screen.verdict(story.broken, time.monotonic() - began)
    if kept:
        _invite(story, screen)
    return 1 if story.broken else 0


async def _until_signalled(story: Story) -> None:
    """SIGTERM and SIGHUP end the demo as Ctrl-C does."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await story.run()


def _end(story: Story, screen: Screen, *, interrupted: bool) -> None:
    """Stop everything, whatever else is asked for meanwhile, and see that nothing is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if interrupted:
        screen.plain("\nstopping what the demo started …")
    killed = story.state.stop()
    if killed and not interrupted:
        story.broken.append(f"gtc stop left {len(killed)} processes running")
    if story.address is not None and answers(*story.address):
        story.broken.append(f"something still listens on port {story.address[1]} after gtc stop")
    story.state.remove()
    if interrupted:
        screen.plain("nothing is left running")


def _invite(story: Story, screen: Screen) -> None:
    repository = story.state.repository
    screen.plain()
    screen.plain(f"It goes on running: open {story.url} in a browser and chat.")
    screen.plain("To play with the dial, in a shell:")
    screen.plain()
    for line in (
        f'  export PATH="{repository}/.venv/bin:$PATH" GREENTIC_STORE_ROOT="{story.gtc.root}"',
        f'  export GTC_OPERATOR_KEY_PATH="{story.gtc.operator_key}"',
        "  gtc op status",
        "  gtc op traffic set helpdesk v2=25% rest=v1",
        f'  for i in $(seq 8); do curl -s {story.url}message -d \'{{"text": "hello"}}\'; echo; done',
        "  gtc op traffic rollback helpdesk",
        "  gtc op traffic history helpdesk",
        "  gtc op traffic preview helpdesk v2",
    ):
        screen.plain(line)
    screen.plain()
    screen.plain("To stop it and remove what it made: make demo-stop")
