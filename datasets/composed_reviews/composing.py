"""Short reviews, composed of sentences: what is reviewed and how is the same in every split, the words of
praise and blame are not.

Every machine gets the same reviews: random numbers come from `np.random.RandomState`, whose streams are
frozen, and each split has a stream of its own.
"""

from collections.abc import Sequence

import numpy as np

SPLITS = {"train": 400, "validation": 200, "test": 400}
"""Reviews; half of each praise."""
CLASSES = ("negative", "positive")

WORDS = {
    "train": (
        "annoying awful bad disappointing dreadful horrible pathetic poor terrible unpleasant",
        "amazing brilliant charming excellent good great impressive lovely superb wonderful",
    ),
    "validation": (
        "dismal frustrating inferior laughable lousy mediocre miserable regrettable shoddy unbearable",
        "admirable beautiful commendable delightful enjoyable fantastic likeable remarkable splendid "
        "terrific",
    ),
    "test": (
        "abysmal appalling atrocious clumsy deplorable depressing dire disastrous disgusting dreary dull "
        "ghastly grim hideous hopeless infuriating insufferable lame lamentable revolting rotten shabby "
        "sloppy substandard tedious underwhelming useless woeful worthless wretched",
        "awesome captivating dazzling divine enchanting exceptional exquisite fabulous faultless flawless "
        "glorious gorgeous heavenly incredible irresistible magnificent marvellous masterful memorable "
        "outstanding perfect phenomenal praiseworthy refreshing satisfying spectacular stellar stunning "
        "sublime superlative",
    ),
}
"""Of each split the words of blame and of praise: no word is in two of these lists."""

THINGS = {
    "film": (
        "plot, acting, ending, music, dialogue, camera work, opening scene, casting",
        "We saw it on Friday. My sister had tickets. It runs for two hours. The cinema was half full. "
        "Popcorn included. I went alone.",
    ),
    "hotel": (
        "room, breakfast, service, view, bed, lobby, bathroom, bar",
        "We stayed three nights. I was there on business. The station is close. Booked through a friend. "
        "Our floor was the fourth. Checked in after midnight.",
    ),
    "phone": (
        "screen, camera, sound, battery, keyboard, loudspeaker, casing, charger",
        "Two months old now. I bought mine in March. It replaced one from 2019. The shop is nearby. "
        "I chose the black one. Mostly used for work.",
    ),
    "meal": (
        "soup, main course, dessert, sauce, bread, service, salad, coffee",
        "There were six of us. We ordered four courses. Table for eight o'clock. A birthday, as it happens. "
        "The kitchen closes at ten. We sat outside.",
    ),
    "book": (
        "story, writing, ending, first chapter, translation, cover, hero, index",
        "I read it on trains. Some 300 pages. My neighbour lent it to me. Second edition, by the way. "
        "Finished on Sunday. A present from my aunt.",
    ),
    "concert": (
        "singing, sound, choice of songs, lighting, support band, encore, drumming, venue",
        "We had third row seats. Doors opened at nine. About 800 people came. First night of the tour. "
        "Cloakroom on the left. They played until eleven.",
    ),
    "museum": (
        "new wing, guided tour, audio guide, collection upstairs, lighting, café, garden, gift shop",
        "We spent an afternoon there. Closed on Mondays. My parents came along. Take bus number 12. "
        "Entry is by ticket only. I drew a little.",
    ),
    "course": (
        "teaching, first lesson, textbook, choice of topics, final project, pace, first exercise, "
        "online forum",
        "It took six weeks. Twelve people signed up. We met on Tuesday evenings. My employer paid. "
        "The next one starts in autumn. Level two, for the record.",
    ),
    "bike": (
        "saddle, frame, gearbox, braking, paintwork, bell, steering, luggage rack",
        "Ridden 900 miles so far. Bought from a neighbour. I commute through town. It weighs 14 kilos. "
        "Size medium. Mine is green.",
    ),
    "podcast": (
        "host, sound, first episode, theme song, research, final interview, editing, pace",
        "New every Thursday. I listen while cooking. My brother sent me the link. Forty minutes each. "
        "Series three just began. Recorded in Leeds.",
    ),
}
"""What is reviewed: parts of it, of which something may be said, and sentences that say nothing of how good
it was."""

FRAMES = (
    "What {a} {thing}!",
    "This is {a} {thing}.",
    "For me {a} {thing}.",
    "In a word: {word}.",
    "The whole {thing} was {word}.",
    "I call that {a} {thing}.",
    "Altogether {a} {thing}.",
    "Friends had called the {thing} {word}, and it is.",
    "You rarely find such {a} {thing}.",
    "Overall: {word}.",
    "Really {a} {thing}.",
    "To us the {thing} seemed {word}.",
    "The {part} was {word}.",
    "I found the {part} {word}.",
    "The {part} in particular: {word}.",
    "{Word}, that {part}.",
    "As for the {part}, {word}.",
    "We both thought the {part} {word}.",
    "The {part} is simply {word}.",
    "And the {part}? Just {word}.",
    "Everybody noticed how {word} the {part} was.",
    "That {part} is {word} indeed.",
    "My verdict on the {part} is {word}.",
    "{Word} {part}, if you ask me.",
)


def words(split: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the words of blame and those of praise of a split."""
    blame, praise = WORDS[split]
    return tuple(blame.split()), tuple(praise.split())


def reviews(split: str) -> list[tuple[str, int]]:
    """Return the reviews of a split, all different, as (text, index into CLASSES); the classes take turns.

    A review has two sentences with two words of its class, in one case of three with a third sentence
    that says nothing. No two with the same third sentence, of any split, share a part or a form of words
    besides: they would say nearly the same, and a network could know them by that.
    """
    shared: set[tuple[str, str]] = set()
    found = {}
    for number, name in enumerate(SPLITS):
        found[name] = _reviews(name, np.random.RandomState([7, number]), shared)
    return found[split]


def _reviews(
    split: str, random: np.random.RandomState, shared: set[tuple[str, str]]
) -> list[tuple[str, int]]:
    """`reviews` of one split; shared: (third sentence, part or form of words) of those before, added to."""
    names, vocabulary = list(THINGS), words(split)
    found: dict[str, int] = {}
    while len(found) < SPLITS[split]:
        label = len(found) % 2
        thing = names[random.randint(len(names))]
        parts, asides = (listed.split(by) for listed, by in zip(THINGS[thing], (", ", ". "), strict=True))
        drawn = [some(of, random) for of in (vocabulary[label], FRAMES, parts)]
        sentences = []
        for word, frame, part in zip(*drawn, strict=True):
            sentence = frame.format(
                thing=thing,
                part=part,
                word=word,
                Word=word.capitalize(),
                a=f"{article(word)} {word}",
            )
            sentences.append(sentence)
        if random.randint(3) == 0:
            aside = asides[random.randint(len(asides))].rstrip(".")
            sentences.insert(random.randint(3), f"{aside}.")
            told = {(aside, one) for one in (*drawn[1], *drawn[2])}
            if told & shared:
                continue
            shared |= told
        found.setdefault(" ".join(sentences), label)
    return list(found.items())


def some(choices: Sequence[str], random: np.random.RandomState) -> list[str]:
    """Draw two different ones."""
    return [choices[i] for i in random.permutation(len(choices))[:2]]


def article(word: str) -> str:
    """The article before one of the words above: it goes by sound, "a useless", "an unbearable"."""
    return "an" if word[0] in "aeiou" and not word.startswith("use") else "a"
