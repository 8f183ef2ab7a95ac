"""English sentences and their translations into an invented language, both composed by rules.

A meaning has one word in the invented language and several in English: `big`, `large` and `enormous` are the
same there. Which English words are used differs from split to split, so that about half of the nouns,
adjectives, verbs and adverbs of a validation or test sentence stand in no training sentence. The order is
another one as well: the verb comes last, an adjective behind its noun, what is a preposition in English
behind what it belongs to, and a reason before what it explains.

Every machine gets the same sentences: random numbers come from `np.random.RandomState`, whose streams are
frozen, and each split has a stream of its own.
"""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

SPLITS = {"train": 1500, "validation": 200, "test": 400}
"""Sentences."""

MEANINGS = {
    "noun": (
        "doctor, physician | medic | surgeon, clinician",
        "kid, child:children, youngster | toddler | infant, juvenile",
        "friend, pal | buddy:buddies | companion, comrade",
        "thief:thieves, robber | burglar | crook, bandit",
        "teacher, tutor | instructor | educator, lecturer",
        "boss:bosses, manager | supervisor | director, foreman:foremen",
        "soldier, warrior | fighter | trooper, infantryman:infantrymen",
        "king, monarch | sovereign | emperor, tsar",
        "lawyer, attorney | solicitor | barrister, prosecutor",
        "writer, author | columnist | essayist, playwright",
        "farmer, grower | peasant | rancher, ploughman:ploughmen",
        "sailor, seaman:seamen | mariner | seafarer, skipper",
        "singer, vocalist | soprano | tenor, chorister",
        "policeman:policemen, cop | constable | sheriff, detective",
        "dog, puppy:puppies | hound | poodle, terrier",
        "cat, kitten | tabby:tabbies | feline, lynx:lynxes",
        "horse, pony:ponies | mare | stallion, colt",
        "snake, serpent | viper | cobra, python",
        "bird, sparrow | robin | finch:finches, thrush:thrushes",
        "house, home | cottage | villa, bungalow",
        "road, street | avenue | highway, motorway",
        "river, stream | creek | brook, rivulet",
        "mountain, hill | peak | summit, cliff",
        "shop, store | supermarket | boutique, bakery:bakeries",
        "car, automobile | sedan | limousine, taxi",
        "boat, ship | vessel | yacht, ferry:ferries",
        "coat, jacket | blazer | cloak, parka",
        "hat, cap | bonnet | beret, helmet",
        "cup, mug | goblet | beaker, tumbler",
        "rock, stone | boulder | pebble, brick",
        "gift, present | donation | souvenir, bouquet",
        "picture, painting | portrait | drawing, sketch:sketches",
        "book, novel | paperback | manual, dictionary:dictionaries",
        "letter, message | memo | telegram, postcard",
        "knife:knives, sword | dagger | blade, sabre",
        "sofa, couch:couches | armchair | settee, recliner",
        "bag, sack | suitcase | backpack, purse",
        "school, college | university:universities | academy:academies, kindergarten",
        "church:churches, chapel | cathedral | abbey, monastery:monasteries",
        "prison, jail | dungeon | penitentiary:penitentiaries, gulag",
        "garden, yard | park | meadow, orchard",
        "hotel, inn | hostel | motel, lodge",
        "tree, oak | pine | elm, birch:birches",
        "flower, rose | tulip | daisy:daisies, orchid",
        "cake, pie | tart | muffin, doughnut",
    ),
    "adjective": (
        "big, large | huge | enormous, gigantic",
        "small, little | tiny | miniature, minuscule",
        "old, aged | ancient | elderly, antique",
        "fast, quick | rapid | speedy, brisk",
        "happy, glad | cheerful | joyful, merry",
        "sad, unhappy | gloomy | miserable, mournful",
        "pretty, beautiful | charming | gorgeous, attractive",
        "ugly, hideous | unsightly | grotesque, repulsive",
        "clever, smart | intelligent | brilliant, wise",
        "stupid, foolish | dumb | silly, idiotic",
        "rich, wealthy | affluent | prosperous, moneyed",
        "poor, needy | penniless | destitute, impoverished",
        "strong, powerful | mighty | muscular, robust",
        "weak, feeble | frail | fragile, delicate",
        "brave, courageous | fearless | bold, heroic",
        "angry, mad | furious | enraged, irate",
        "tired, sleepy | weary | exhausted, drowsy",
        "dirty, filthy | muddy | grimy, soiled",
        "strange, odd | weird | peculiar, bizarre",
        "famous, celebrated | renowned | legendary, illustrious",
        "new, modern | recent | contemporary, fresh",
    ),
    "verb": (
        "see:saw, notice | spot:spotted | observe, glimpse",
        "like, love | adore | cherish, enjoy",
        "hate, dislike | detest | despise, loathe",
        "help, assist | aid | support, rescue",
        "buy:bought, purchase | acquire | obtain, order",
        "steal:stole, rob:robbed | snatch | swipe, pilfer",
        "destroy, wreck | ruin | demolish, shatter",
        "build:built, construct | erect | assemble, make:made",
        "repair, fix | mend | restore, patch",
        "find:found, discover | locate | detect, uncover",
        "hide:hid, conceal | bury | disguise, mask",
        "carry, bring:brought | transport | haul, deliver",
        "follow, chase | pursue | track, hunt",
        "hit:hit, strike:struck | punch | smack, slap:slapped",
        "describe, explain | depict | portray, characterize",
        "admire, praise | applaud | compliment, commend",
        "clean, wash | scrub:scrubbed | polish, rinse",
        "attack, assault | ambush | raid, invade",
        "pull, drag:dragged | tow | tug:tugged, yank",
        "throw:threw, toss | hurl | fling:flung, pitch",
        "abandon, leave:left | desert | ditch, forsake:forsook",
    ),
    "adverb": (
        "quickly, swiftly | rapidly | hastily, speedily",
        "quietly, silently | softly | noiselessly, mutely",
        "often, frequently | regularly | repeatedly, constantly",
        "suddenly, abruptly | unexpectedly | instantly, surprisingly",
        "gladly, happily | cheerfully | joyfully, eagerly",
        "perhaps, maybe | possibly | probably, presumably",
        "sadly, unfortunately | regrettably | tragically, alas",
    ),
}
"""Of each kind the meanings: English words of training, of validation and of test. A noun has its plural, and
a verb its past, behind a colon where it is not regular."""

SMALL_WORDS = {
    "the": "ka", "a": "un", "two": "duo", "three": "teri", "many": "mulo",
    "behind": "psa", "near": "bli", "under": "sot", "with": "kom", "without": "sen",
    "will": "ros", "not": "ne", "because": "kef", "?": "mi",
}  # fmt: skip
"""What has one English word, the same in all splits."""
ENDINGS = {"noun": "ao", "adjective": "i", "verb": "u", "adverb": "e"}
"""The last letter of a word of the invented language, by its kind."""
PLURAL = "n"
SHARE_NEW = 0.5
"""Of the nouns, adjectives, verbs and adverbs of validation and test, how many are words of their own."""


class Meaning(NamedTuple):
    """Words of one meaning."""

    foreign: str
    english: dict[str, tuple[str, ...]]
    """By split; each word with its plural or past behind a colon where that is not regular."""


def meanings() -> dict[str, list[Meaning]]:
    """By kind, the meanings with their words; those of the invented language are drawn, and all different."""
    random = np.random.RandomState([23, 0])
    taken = set(SMALL_WORDS.values())
    found: dict[str, list[Meaning]] = {}
    for kind, lists in MEANINGS.items():
        found[kind] = []
        for number, written in enumerate(lists):
            foreign = ""
            while not foreign or foreign in taken or foreign + PLURAL in taken:
                foreign = _drawn_word(kind, 2 + number % 2, random)
            taken |= {foreign, foreign + PLURAL}
            parts = (tuple(part.strip().split(", ")) for part in written.split("|"))
            found[kind].append(Meaning(foreign, dict(zip(SPLITS, parts, strict=True))))
    return found


def _drawn_word(kind: str, syllables: int, random: np.random.RandomState) -> str:
    letters = [_one_of(part, random) for part in ["bdfgklmnprstvz", "aeiou"] * syllables]
    return "".join(letters[:-1]) + _one_of(ENDINGS[kind], random)


def _one_of(choices: Sequence, random: np.random.RandomState):
    return choices[random.randint(len(choices))]


def plural(noun: str) -> str:
    """Return the plural of a noun as `MEANINGS` writes it: "child:children" or "dog"."""
    word, _, given = noun.partition(":")
    return given or f"{word}s"


def past(verb: str) -> str:
    """Return the past of a verb as `MEANINGS` writes it: "see:saw" or "carry"."""
    word, _, given = verb.partition(":")
    if given:
        return given
    if re.search("[^aeiou]y$", word):
        return f"{word[:-1]}ied"
    return f"{word}d" if word.endswith("e") else f"{word}ed"


class Composer:
    """Composes sentences of a split; each meaning of a kind, and each word of it, as often as others."""

    def __init__(self, split: str, random: np.random.RandomState):
        self.split, self.random = split, random
        self.words = meanings()
        self.decks = {kind: dealt(range(len(some)), random) for kind, some in self.words.items()}
        self.choices = {
            (kind, number, of): dealt(one.english[of], random)
            for kind, some in self.words.items()
            for number, one in enumerate(some)
            for of in dict.fromkeys(("train", split))
        }

    def chance(self, share: float) -> bool:
        return self.random.random_sample() < share

    def word(self, kind: str) -> tuple[str, str]:
        """The next meaning of a kind: one of its English words, and that of the invented language."""
        number = next(self.decks[kind])
        of = self.split if self.chance(SHARE_NEW) else "train"
        return next(self.choices[kind, number, of]), self.words[kind][number].foreign

    def things(self) -> tuple[str, str]:
        """A noun with what goes with it: "the big dogs", "gona bavi ka"."""
        before = _one_of(("the", "the", "the", "a", "two", "three", "many"), self.random)
        many = before in ("two", "three", "many") or (before == "the" and self.chance(0.3))
        noun, foreign = self.word("noun")
        noun = plural(noun) if many else noun.partition(":")[0]
        foreign += PLURAL * many
        if self.chance(0.5):
            adjective, behind = self.word("adjective")
            noun, foreign = f"{adjective} {noun}", f"{foreign} {behind}"
        if before == "a" and noun[0] in "aeiou" and not noun.startswith("uni"):
            return f"an {noun}", f"{foreign} {SMALL_WORDS['a']}"
        return f"{before} {noun}", f"{foreign} {SMALL_WORDS[before]}"

    def clause(self) -> tuple[str, str, bool]:
        """Who does what, perhaps where and how, without its sign at the end; and whether it asks."""
        (who, who_there), (what, what_there), (verb, verb_there) = (
            self.things(),
            self.things(),
            self.word("verb"),
        )
        base = verb.partition(":")[0]
        said, there = {
            "past": (f"{who} {past(verb)} {what}", verb_there),
            "will": (f"{who} will {base} {what}", f"{verb_there} {SMALL_WORDS['will']}"),
            "not": (f"{who} did not {base} {what}", f"{SMALL_WORDS['not']} {verb_there}"),
            "?": (f"did {who} {base} {what}", f"{verb_there} {SMALL_WORDS['?']}"),
        }[form := _one_of(("past", "past", "past", "will", "not", "?"), self.random)]
        place = ""
        if self.chance(0.25):
            where = _one_of(("behind", "near", "under", "with", "without"), self.random)
            place_said, place_there = self.things()
            said, place = f"{said} {where} {place_said}", f"{place_there} {SMALL_WORDS[where]} "
        if form != "?" and self.chance(0.25):
            how, how_there = self.word("adverb")
            said, there = f"{how} {said}", f"{there} {how_there}"
        return said, f"{who_there} {place}{what_there} {there}", form == "?"

    def sentence(self) -> tuple[str, str]:
        """A clause, or one and its reason."""
        said, there, asks = self.clause()
        if not asks and self.chance(0.15):
            reason, reason_there, asks_too = self.clause()
            if not asks_too:
                said = f"{said} because {reason}"
                there = f"{reason_there} {SMALL_WORDS['because']}, {there}"
        return tuple(one[0].upper() + one[1:] + ("?" if asks else ".") for one in (said, there))


def sentences(split: str) -> list[tuple[str, str]]:
    """Return the pairs of a split, (English, the invented language), all different in both."""
    random = np.random.RandomState([23, 1 + list(SPLITS).index(split)])
    composer, found, seen = Composer(split, random), [], set()
    while len(found) < SPLITS[split]:
        pair = composer.sentence()
        if not seen & set(pair):
            found.append(pair)
            seen |= set(pair)
    return found


def dealt(choices: Sequence, random: np.random.RandomState) -> Iterator:
    """Yield all in random order, then all again in another, without end."""
    while True:
        for place in random.permutation(len(choices)):
            yield choices[place]
