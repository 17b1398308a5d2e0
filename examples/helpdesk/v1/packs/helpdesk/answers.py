"""What version 1 says: one answer per subject, found by a word in the question."""

VERSION = "1.0.0"
COLOUR = "#2456a6"

SUBJECTS = {
    ("password", "login", "locked"): "To reset your password, open the sign-in page and choose 'Forgot password'.",
    ("ticket", "status", "case"): "Please tell me your ticket number, for example T-1042.",
    ("hours", "open", "closed", "when"): "We are here Monday to Friday, 9:00 to 17:00.",
}
OTHERWISE = "I did not understand that. Ask me about passwords, tickets or opening hours."


class Assistant:
    """Answers one question at a time and remembers nothing."""

    def __init__(self, greeting: str) -> None:
        self.greeting = greeting
        self.answered = 0

    def answer(self, text: str, _session: str) -> str:
        self.answered += 1
        asked = text.lower()
        for words, reply in SUBJECTS.items():
            if any(word in asked for word in words):
                return reply
        return OTHERWISE
