"""What a teacher is told: an instruction, and worked examples in which only words were deleted."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Prompt:
    """A chat prompt for compression by deletion.

    Attributes:
        name: Version of the prompt, part of every cache key and of the labels' provenance.
        instruction: The system message.
        examples: Earlier turns: (original, compressed) pairs. The words of a compression are words
            of its original, unchanged and in order.
    """

    name: str
    instruction: str
    examples: tuple[tuple[str, str], ...]

    def messages(self, text: str) -> list[dict[str, str]]:
        """The chat that asks for a text's compression."""
        turns = [("system", self.instruction)]
        for original, compressed in self.examples:
            turns += [("user", original), ("assistant", compressed)]
        return [{"role": role, "content": content} for role, content in [*turns, ("user", text)]]


FACTS = Prompt(
    name="facts-2",
    instruction=(
        "You compress text by deleting words. The words that stay are unchanged and in their "
        "order; nothing is added. Somebody will answer questions from what is left, so keep every "
        "name, number, date, place, quantity, unit and negation, and who did what to whom, when, "
        "where, how and why. Delete articles, filler, politeness, repetition, and every word that "
        "a reader can guess from the rest."
    ),
    examples=(
        (
            "The Harlow Bridge, which was completed in the spring of 1931 after nearly four years "
            "of construction, carries two lanes of traffic and a narrow footpath across the River "
            "Ansel, and it is often said to be the oldest bridge of its kind that is still in use "
            "in the county of Merrow. It was designed by the engineer Edith Calloway, who had "
            "never before been put in charge of a project of this size, at a total cost of about "
            "212,000 pounds.",
            "Harlow Bridge, completed spring 1931 after nearly four years construction, carries "
            "two lanes traffic narrow footpath across River Ansel, said oldest bridge of its kind "
            "still in use county Merrow. designed by engineer Edith Calloway, never before in "
            "charge project this size, cost about 212,000 pounds.",
        ),
        (
            "Project Manager: Okay, so, um, I think we should, you know, probably get started, "
            "because we only have about forty minutes today. So last time we said that the, uh, "
            "the battery would not be rechargeable. Marketing: Yeah, right, that is what we said, "
            "but I mean, I did ask around a bit and, um, thirty seven percent of the people in "
            "the survey told us that they would actually pay more for it. Project Manager: Okay. "
            "Hmm. So, Anna, can you find out what that would cost us per unit before Friday?",
            "Project Manager: we only have about forty minutes today. last time said battery "
            "would not be rechargeable. Marketing: did ask around thirty seven percent people in "
            "survey would pay more for it. Project Manager: Anna, find out what would cost per "
            "unit before Friday?",
        ),
        (
            "Question: Marta has a small farm with 14 hens, and each of the hens lays 3 eggs "
            "every two days. She keeps 5 eggs for her own family each day and sells all of the "
            "rest of them at the market for $0.40 each. How much money does she make in a week? "
            "Answer: In a single day the hens lay 14 * 3 / 2 = 21 eggs. Marta has 21 - 5 = 16 "
            "eggs left that she can sell every day. So in a week of 7 days she makes 16 * 7 * "
            "$0.40 = $44.80.",
            "Question: Marta has 14 hens, each lays 3 eggs every two days. keeps 5 eggs own "
            "family each day sells rest $0.40 each. How much money make in week? Answer: day hens "
            "lay 14 * 3 / 2 = 21 eggs. 21 - 5 = 16 eggs left sell every day. week 7 days makes 16 "
            "* 7 * $0.40 = $44.80.",
        ),
        (
            "We compared a low dose of the drug with a placebo in 418 patients over the age of 60 "
            "who had been admitted to one of three hospitals in Lisbon between 2011 and 2014. "
            "Although there was a small reduction in the length of stay (5.2 days as against 6.1 "
            "days, p = 0.03), we did not find any significant difference in mortality, and these "
            "results therefore do not support the routine use of the drug.",
            "compared low dose drug with placebo in 418 patients over 60 admitted three hospitals "
            "Lisbon between 2011 and 2014. small reduction length of stay (5.2 days against 6.1 "
            "days, p = 0.03), did not find significant difference in mortality, results do not "
            "support routine use drug.",
        ),
        (
            "User: Hi, I am looking for a place to eat tonight, something cheap if possible. "
            "System: Sure, I can help you with that. What kind of food would you like to have? "
            "User: I think I would like some Thai food, for four people, and please not in the "
            "city centre. System: There is a nice place called Lotus Garden at 12 Mill Road. "
            "Shall I go ahead and reserve a table for 4 at 7:30 pm? User: Yes, that sounds great, "
            "but can you make it 8 pm instead? System: Your table has been reserved for 8 pm.",
            "User: looking place to eat tonight, cheap if possible. System: What food would you "
            "like to have? User: Thai food, four people, not in city centre. System: Lotus Garden "
            "at 12 Mill Road. reserve table for 4 at 7:30 pm? User: Yes, make it 8 pm instead? "
            "System: reserved for 8 pm.",
        ),
    ),
)
"""Keeps what questions ask about; our own wording and our own examples."""
