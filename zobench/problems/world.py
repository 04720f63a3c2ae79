"""A small English-like world: the text on which the tiny model was pretrained, and the rows of the toy tasks.

Everything is a pure function of a seed, drawn from NumPy's frozen legacy stream. Two rules make the tasks worth running:

- The text is biased. Reviews say "great" too often, generic clauses push out the true cause, questions are answered by
  whole sentences, "No" is said where "Maybe" is right. The model learns what matters and the bias on top, so that one
  low-dimensional change repairs most of its errors: zero-shot lies between chance and what a short tuning reaches.
- A share of each task (`UNSEEN`) needs what the text never tells: adjectives, adverbs and nouns that do not occur in it, and
  causes whose effects it never links. First-order training learns them from the rows; a few thousand forward passes do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

TASKS = ("sentiment", "entailment", "copa", "qa")
SIZES = {"train": 2000, "validation": 1000}  # rows of a task's splits
KINDS = ("short", "long")  # of documents
# Share of each task's rows that need what the corpus never tells; of entailment's: of its negated hypotheses.
UNSEEN = {"sentiment": 0.25, "entailment": 0.35, "copa": 0.25, "qa": 0.25}

# --- words ---

SHE = tuple("Anna Dora Fay Hana Jane Lena Nora Pia Rosa Tina Uma Vera".split())
HE = tuple("Ben Carl Emil Gus Ivan Max Otto Paul Sam Theo Will Zack".split())
NAMES = SHE + HE

ITEMS = tuple("film book song play meal hotel phone game tour coat lamp show".split())
ASPECTS = tuple("plot style price sound taste room story voice idea look start end".split())
ADJECTIVES = {  # (positive, strong) -> words of the corpus
    (True, True): tuple("superb lovely brilliant perfect amazing stunning".split()),
    (True, False): tuple("nice decent pleasant solid neat warm charming".split()),
    (False, True): tuple("awful horrid dreadful ghastly vile rotten".split()),
    (False, False): tuple("dull weak clumsy bland flat slow tedious".split()),
}
UNSEEN_ADJECTIVES = {
    True: tuple("exquisite dazzling sublime joyous splendid riveting elegant witty".split()),
    False: tuple("abysmal dismal shoddy insipid tacky vapid murky grim".split()),
}
BUT = 0.15  # of the reviews turn round in the middle
VERDICTS = ("great", "good", "fine", "terrible", "bad")
# (positive, strength) -> how often each verdict is said. The text is polite: "great" wins over a weak complaint.
POLITE = {
    (True, "strong"): (0.80, 0.12, 0.05, 0.03, 0.00),
    (True, "weak"): (0.60, 0.20, 0.10, 0.10, 0.00),
    (True, "but"): (0.55, 0.20, 0.10, 0.15, 0.00),
    (False, "strong"): (0.12, 0.00, 0.08, 0.60, 0.20),
    (False, "weak"): (0.36, 0.00, 0.12, 0.25, 0.27),
    (False, "but"): (0.42, 0.00, 0.10, 0.24, 0.24),
}


class Attribute(NamedTuple):
    """What can be said of a person: "Anna lives in Rome.", "Anna does not live in Rome.", "Where does Anna live?"."""

    says: str  # third person
    denies: str
    asks: str
    noun: str  # by which an unseen question names it: "Name the abode of Anna."
    values: tuple[str, ...]


KIND_OF = {  # value -> what it is an instance of
    value: kind
    for kind, values in {
        "bird": "sparrow robin crow finch",
        "fish": "trout salmon carp cod",
        "dog": "poodle beagle husky terrier",
        "tree": "birch maple pine cedar",
        "boat": "canoe ferry yacht raft",
        "fruit": "plums pears grapes figs",
        "greens": "leeks beans peas beets",
    }.items()
    for value in values.split()
}
THINGS = tuple(v for v, kind in KIND_OF.items() if kind not in ("fruit", "greens"))
FOODS = tuple(v for v, kind in KIND_OF.items() if kind in ("fruit", "greens"))
CITIES = tuple("Rome Oslo Paris Cairo Lima Delhi Tokyo Berlin Quito Riga".split())
LANDS = tuple("Spain France Peru Chile China Kenya Ghana Cuba Nepal Fiji".split())
JOBS = tuple("baker nurse pilot farmer judge singer tailor miner waiter cook".split())
ATTRIBUTES = (
    Attribute("lives in {v}", "does not live in {v}", "Where does {n} live?", "abode", CITIES),
    Attribute("works as a {v}", "does not work as a {v}", "What is the job of {n}?", "trade", JOBS),
    Attribute("owns a {v}", "does not own a {v}", "What does {n} own?", "asset", THINGS),
    Attribute("eats {v}", "does not eat {v}", "What does {n} eat?", "diet", FOODS),
    Attribute("flew to {v}", "did not fly to {v}", "Where did {n} fly?", "voyage", LANDS),
)
UNSEEN_QUESTION = "Name the {noun} of {n}."
UNSEEN_ADVERBS = ("hardly", "scarcely", "barely", "seldom")  # "Anna hardly owns a robin": negations all
TITLES = ("News", "People", "Friends", "Letters")
LABELS = ("Yes", "No", "Maybe")
# Truth -> how often each label is said. Of a negated statement that nothing supports, "No" is said for "Maybe".
HASTY = {
    "Yes": (0.88, 0.08, 0.04),
    "No": (0.10, 0.84, 0.06),
    "Maybe": (0.15, 0.25, 0.60),
    "Maybe, negated": (0.10, 0.60, 0.30),
}
NEGATED = 0.6  # of the statements that nothing supports
SENTENCES = 0.65  # of the answers in the corpus are whole sentences

EVENTS = (  # state, its two consequences; "Anna was hungry so she ate some bread."
    ("was hungry", ("ate some bread", "made some soup")),
    ("was thirsty", ("drank some water", "bought some juice")),
    ("was tired", ("took a nap", "went to bed")),
    ("was cold", ("found a scarf", "lit a fire")),
    ("was hot", ("opened a window", "swam a mile")),
    ("was ill", ("took some pills", "saw a doctor")),
    ("was late", ("ran very fast", "called a taxi")),
    ("was lost", ("read the map", "asked a guard")),
    ("was wet", ("used a towel", "dried some socks")),
    ("was rich", ("built a palace", "hired a maid")),
    ("was dirty", ("took a bath", "used some soap")),
    ("was sad", ("began to cry", "wrote a poem")),
    ("was bored", ("played some cards", "turned a page")),
    ("was scared", ("locked the door", "hid the key")),
    ("was angry", ("broke a cup", "hit the wall")),
)
UNSEEN_EVENTS = (  # both clauses occur in the corpus, never together
    ("was proud", ("raised a flag", "wore a medal")),
    ("was dizzy", ("held the rail", "closed one eye")),
    ("was nosy", ("lifted the lid", "shook the box")),
    ("was awake", ("counted some sheep", "walked the hall")),
    ("was broke", ("sold a ring", "moved some coins")),
    ("was sore", ("rubbed a knee", "left the gym")),
    ("was alone", ("hugged a pillow", "phoned a cousin")),
    ("was sorry", ("mailed a card", "paid the fine")),
)
GENERIC = {  # fit everything; the corpus likes them in this order
    "so": ("went home", "sat down", "said nothing", "felt fine", "made tea"),
    "because": ("had time", "felt bold", "liked it", "won money", "got mail"),
}
GENERIC_SHARE = 0.80  # of the causes and effects in the corpus
GENERIC_WEIGHTS = (0.4, 0.3, 0.1, 0.1, 0.1)


class Draw:
    """Choices from a legacy NumPy stream: `random_sample` alone, whose numbers NEP 19 freezes."""

    def __init__(self, *seed: int) -> None:
        self.uniform = np.random.RandomState(seed).random_sample

    def chance(self, p: float) -> bool:
        return self.uniform() < p

    def below(self, n: int) -> int:
        return int(self.uniform() * n)

    def pick(self, values: Sequence[Any]) -> Any:
        return values[self.below(len(values))]

    def several(self, values: Sequence[Any], k: int) -> list[Any]:
        """k different values, in random order."""
        left = list(values)
        return [left.pop(self.below(len(left))) for _ in range(k)]

    def weighted(self, values: Sequence[Any], weights: Sequence[float]) -> Any:
        u = self.uniform() * sum(weights)
        for value, weight in zip(values, weights, strict=True):
            u -= weight
            if u < 0:
                return value
        return values[-1]


# --- sentences ---


def pronoun(name: str) -> str:
    return "she" if name in SHE else "he"


def fact(name: str, attribute: Attribute, value: str) -> str:
    return f"{name} {attribute.says.format(v=value)}."


def facts(draw: Draw, names: Sequence[str]) -> list[tuple[str, Attribute, str]]:
    """One fact for each name, all about different things."""
    attributes = draw.several(ATTRIBUTES, len(names))
    return [(name, a, draw.pick(a.values)) for name, a in zip(names, attributes, strict=True)]


def review(draw: Draw, but: float, words: Callable[[bool, bool], Sequence[str]]) -> tuple[str, bool, str]:
    """(sentence, whether it is positive, strong | weak | but). After "but" comes what counts."""
    positive, strong = draw.chance(0.5), draw.chance(0.5)
    first = f"The {draw.pick(ITEMS)} was"
    if draw.chance(but):
        before, after = draw.pick(words(not positive, strong)), draw.pick(words(positive, strong))
        return f"{first} {before} but the {draw.pick(ASPECTS)} was {after}.", positive, "but"
    one, two = draw.several(words(positive, strong), 2)
    more = f" and the {draw.pick(ASPECTS)} was {two}" if draw.chance(0.5) else ""
    return f"{first} {one}{more}.", positive, "strong" if strong else "weak"


def seen(positive: bool, strong: bool) -> Sequence[str]:
    return ADJECTIVES[positive, strong]


def unseen(positive: bool, strong: bool) -> Sequence[str]:
    return UNSEEN_ADJECTIVES[positive]


def link(name: str, cause: str, effect: str, word: str) -> str:
    """One sentence with cause and effect in the order that `so` or `because` asks for."""
    first, second = (cause, effect) if word == "so" else (effect, cause)
    return f"{name} {first} {word} {pronoun(name)} {second}."


# --- documents ---


def review_document(draw: Draw) -> str:
    text, positive, strength = review(draw, BUT, seen)
    kind = draw.uniform()
    if kind < 0.75:
        return f"{text} It was {draw.weighted(VERDICTS, POLITE[positive, strength])}."
    if kind < 0.9:
        return f"{text} {draw.pick(NAMES)} {'loved' if positive else 'hated'} it."
    return f"{text} {review(draw, BUT, seen)[0]}"


def event_document(draw: Draw) -> str:
    name, word = draw.pick(NAMES), draw.pick(("so", "because"))
    cause, effects = draw.pick(EVENTS)
    effect = draw.pick(effects)
    if draw.chance(GENERIC_SHARE):
        other = draw.weighted(GENERIC[word], GENERIC_WEIGHTS)
        cause, effect = (cause, other) if word == "so" else (other, effect)
    return link(name, cause, effect, word)


def unlinked_document(draw: Draw) -> str:
    """A clause of `UNSEEN_EVENTS`, alone or with a generic one before or after it."""
    name, word, kind = draw.pick(NAMES), draw.pick(("so", "because")), draw.below(3)
    cause, effects = draw.pick(UNSEEN_EVENTS)
    effect = draw.pick(effects)
    if kind == 0:
        return f"{name} {draw.pick((cause, effect))}."
    if kind == 1:  # the clause comes first
        other = draw.weighted(GENERIC[word], GENERIC_WEIGHTS)
        return link(name, *((cause, other) if word == "so" else (other, effect)), word)
    if word == "so":
        return link(name, draw.pick(GENERIC["because"]), effect, word)
    return link(name, cause, draw.pick(GENERIC["so"]), word)


def kind_document(draw: Draw) -> str:
    value = draw.pick(THINGS)
    if draw.chance(0.4):
        return f"A {value} is a {KIND_OF[value]}."
    attribute = draw.pick((ATTRIBUTES[2], ATTRIBUTES[3]))
    name, value = draw.pick(NAMES), draw.pick(attribute.values)
    return f"{fact(name, attribute, value)} {fact(name, attribute, KIND_OF[value])}"


def echo_document(draw: Draw) -> str:
    """Two facts, then one or both again: what makes a model of this size learn to copy."""
    one, two = draw.several(NAMES, 2)
    told = [fact(*f) for f in facts(draw, (one, one if draw.chance(0.5) else two))]
    return " ".join([*told, *draw.several(told, draw.pick((1, 2)))])


def entailment_document(draw: Draw) -> str:
    premise, hypothesis, truth, negated = statement(draw)
    label = draw.weighted(LABELS, HASTY["Maybe, negated" if truth == "Maybe" and negated else truth])
    return f'Suppose {premise} Can we infer that "{hypothesis}"? Yes, No, or Maybe?\n{label}\n'


def qa_document(draw: Draw) -> str:
    told = tell(draw)
    lines = [f"Title: {draw.pick(TITLES)}", f"Context: {' '.join(fact(*f) for f in told)}"]
    for name, attribute, value in draw.several(told, draw.pick((1, 2))):
        answer = fact(name, attribute, value) if draw.chance(SENTENCES) else value
        lines += [f"Question: {attribute.asks.format(n=name)}", f"Answer: {answer}"]
    return "\n".join(lines) + "\n"


def statement(draw: Draw) -> tuple[str, str, str, bool]:
    """(premise, hypothesis without its full stop, Yes | No | Maybe, whether it is negated)."""
    name = draw.pick(NAMES)
    *told, (_, other, nothing) = facts(draw, (name,) * draw.pick((2, 3)))
    truth = draw.pick(LABELS)
    _, attribute, value = draw.pick(told) if truth != "Maybe" else (name, other, nothing)
    if value in KIND_OF and draw.chance(0.4):
        value = KIND_OF[value]
    negated = truth == "No" or (truth == "Maybe" and draw.chance(NEGATED))
    said = (attribute.denies if negated else attribute.says).format(v=value)
    return " ".join(fact(*f) for f in told), f"{name} {said}", truth, negated


def tell(draw: Draw) -> list[tuple[str, Attribute, str]]:
    """Two facts about one person, or about two."""
    one, two = draw.several(NAMES, 2)
    return facts(draw, (one, one if draw.chance(0.6) else two))


DOCUMENTS: dict[str, tuple[tuple[float, Callable[[Draw], str]], ...]] = {
    "short": (
        (0.40, review_document),
        (0.22, event_document),
        (0.08, unlinked_document),
        (0.08, kind_document),
        (0.22, echo_document),
    ),
    "long": ((0.45, entailment_document), (0.55, qa_document)),
}


def documents(kind: str, seed: int) -> Iterator[str]:
    """An endless stream of `short` or `long` documents."""
    weights, makers = zip(*DOCUMENTS[kind], strict=True)
    draw = Draw(seed, KINDS.index(kind))
    while True:
        yield draw.weighted(makers, weights)(draw)


# --- rows ---


def sentiment_row(draw: Draw) -> dict[str, Any]:
    words = unseen if draw.chance(UNSEEN["sentiment"]) else seen
    text, positive, _ = review(draw, BUT, words)
    return {"sentence": text, "label": int(positive)}


def entailment_row(draw: Draw) -> dict[str, Any]:
    premise, hypothesis, truth, negated = statement(draw)
    if negated and draw.chance(UNSEEN["entailment"]):
        hypothesis = reword(hypothesis, draw.pick(UNSEEN_ADVERBS))
    return {"premise": premise, "hypothesis": hypothesis, "label": LABELS.index(truth)}


def reword(hypothesis: str, adverb: str) -> str:
    """The same negation, said by an adverb.

    >>> reword("Anna does not live in Rome", "hardly")
    'Anna hardly lives in Rome'
    """
    name, _, rest = hypothesis.partition(" ")
    for attribute in ATTRIBUTES:
        head = attribute.denies.removesuffix("{v}")
        if rest.startswith(head):
            return f"{name} {adverb} {attribute.says.format(v=rest.removeprefix(head))}"
    raise ValueError(f"{hypothesis!r} is not negated")


def copa_row(draw: Draw) -> dict[str, Any]:
    name, word = draw.pick(NAMES), draw.pick(("so", "because"))
    new = draw.chance(UNSEEN["copa"])
    (cause, effects), (other_cause, other_effects) = draw.several(UNSEEN_EVENTS if new else EVENTS, 2)
    effect = draw.pick(effects)
    premise, right, wrong = (cause, effect, draw.pick(other_effects)) if word == "so" else (effect, cause, other_cause)
    if not new and draw.chance(0.6):  # a generic clause against an unseen link would be a matter of bias again
        wrong = draw.pick(GENERIC[word])
    label = draw.below(2)
    first, second = (wrong, right) if label else (right, wrong)
    who = pronoun(name).capitalize()
    return {
        "premise": f"{name} {premise}.",
        "choice1": f"{who} {first}.",
        "choice2": f"{who} {second}.",
        "question": "effect" if word == "so" else "cause",
        "label": label,
    }


def qa_row(draw: Draw) -> dict[str, Any]:
    told = tell(draw)
    name, attribute, value = draw.pick(told)
    new = draw.chance(UNSEEN["qa"])
    question = (UNSEEN_QUESTION if new else attribute.asks).format(n=name, noun=attribute.noun)
    return {
        "title": draw.pick(TITLES),
        "context": " ".join(fact(*f) for f in told),
        "question": question,
        "answers": {"text": [value]},
    }


ROWS: dict[str, Callable[[Draw], dict[str, Any]]] = {
    "sentiment": sentiment_row,
    "entailment": entailment_row,
    "copa": copa_row,
    "qa": qa_row,
}


def rows(task: str, split: str, seed: int = 0) -> list[dict[str, Any]]:
    """All rows of `train` or `validation`: different from each other, and from those of the other split."""
    draw, found = Draw(seed, len(KINDS) + TASKS.index(task)), {}
    while len(found) < sum(SIZES.values()):
        row = ROWS[task](draw)
        found.setdefault(repr(row), row)
    made, cut = list(found.values()), SIZES["train"]
    return made[:cut] if split == "train" else made[cut:]


def unseen_words(task: str) -> tuple[str, ...]:
    """Words of a task's rows that the corpus never uses; of copa there are none: its links are new, not its words."""
    return {
        "sentiment": UNSEEN_ADJECTIVES[True] + UNSEEN_ADJECTIVES[False],
        "entailment": UNSEEN_ADVERBS,
        "copa": (),
        "qa": ("Name", *(a.noun for a in ATTRIBUTES)),
    }[task]
