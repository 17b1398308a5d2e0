"""What version 2 says: friendlier, remembers the ticket of a conversation, and fetches a person when asked."""

import re
from collections import OrderedDict

VERSION = "2.0.0"
COLOUR = "#1c7c54"

TICKET = re.compile(r"\bT-?(\d{3,6})\b", re.IGNORECASE)
STATES = ("is waiting for a part", "is with a technician", "was solved this morning")
MOST_CONVERSATIONS = 1000

SUBJECTS = {
    (
        "password",
        "login",
        "locked",
    ): "No problem. I have sent a reset link to your e-mail address; it works for an hour.",
    (
        "hours",
        "open",
        "closed",
        "when",
    ): "People are here Monday to Friday, 9:00 to 17:00. I am here all day, every day.",
    ("thank",): "You are welcome.",
}
OTHERWISE = "I am not sure I follow. I know about passwords, tickets and opening hours, or I can get you a person."


class Assistant:
    """Remembers the last ticket number of the conversations it had most recently."""

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting
        self.answered = 0
        self._tickets: OrderedDict[str, int] = OrderedDict()

    def answer(self, text: str, session: str) -> str:
        self.answered += 1
        asked = text.lower()
        found = TICKET.search(text)
        if found:
            self._remember(session, int(found[1]))
        ticket = self._tickets.get(session)
        if any(word in asked for word in ("person", "human", "agent", "escalate")):
            about = f" about ticket T-{ticket}" if ticket is not None else ""
            return f"Of course. A colleague will call you{about} within ten minutes."
        if found or any(word in asked for word in ("ticket", "status", "case")):
            if ticket is None:
                return "Happy to look. Which ticket is it? The number looks like T-1042."
            return f"Ticket T-{ticket} {STATES[ticket % len(STATES)]}."
        for words, reply in SUBJECTS.items():
            if any(word in asked for word in words):
                return reply
        return OTHERWISE

    def _remember(self, session: str, ticket: int) -> None:
        self._tickets[session] = ticket
        self._tickets.move_to_end(session)
        while len(self._tickets) > MOST_CONVERSATIONS:
            self._tickets.popitem(last=False)
