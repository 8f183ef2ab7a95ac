"""Short texts, composed of sentences with places for names: the sentences are the same in every split, what
is put into their places is not.

Into any place goes the name of an animal, a city, a food or a person, or else plain words that name nothing
of these; which it is, neither the sentence nor the place tells. Animals and countable food are plurals and
nothing has an article, so that all fit everywhere.

Every machine gets the same texts: random numbers come from `np.random.RandomState`, whose streams are
frozen, and each split has a stream of its own.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np

SPLITS = {"train": 400, "validation": 200, "test": 400}
"""Texts."""
TYPES = ("animal", "city", "food", "person")
PLAIN = "plain"
KINDS = (*TYPES, PLAIN, PLAIN, PLAIN)
"""What a place holds, each as often: 4 of 7 hold a name, and 1 text of 4 has none."""
MOST = 3
"""Places of a text."""

FILLINGS = {
    "train": {
        "animal": "otters, wolves, giraffes, hedgehogs, penguins, squirrels, elephants, spiders, parrots, "
        "zebras, beavers, butterflies, polar bears, barn owls, snow leopards, sea lions",
        "city": "Lisbon, Tokyo, Berlin, Cairo, Toronto, Moscow, Dublin, Nairobi, Seoul, Warsaw, Chicago, "
        "Athens, New York, Buenos Aires, Cape Town, Hong Kong",
        "food": "butter, rice, pancakes, lentils, chocolate, cheese, yoghurt, spinach, tomatoes, "
        "strawberries, noodles, porridge, olive oil, apple pie, mashed potatoes, maple syrup",
        "person": "Hannah, Thomas, Fatima, Dmitri, Emily, Ahmed, Linda, Kevin, Maria Lopez, James Carter, "
        "Anna Kowalski, David Nguyen, Giulia Rossi, Peter Schmidt, Michael Johnson, Karen Murphy",
        "plain": "sofas, bookshelves, wardrobes, thunder, fog, drizzle, hammers, ladders, screwdrivers, "
        "gravel, cement, velvet, mittens, raincoats, sandals, patience, justice, gossip, jealousy, chess, "
        "gymnastics, arithmetic, tractors, bicycles, bridges, lighthouses, plumbers, librarians, tulips, "
        "moss, envelopes, umbrellas, mirrors, candles, Wednesdays, Halloween, garden hoses, copper wire, "
        "table lamps, road signs, folk dancing, wall sockets, spare time, Latin grammar, window frames, "
        "railway timetables, paper clips, alarm clocks",
    },
    "validation": {
        "animal": "foxes, dolphins, camels, badgers, sparrows, koalas, hamsters, lizards, mosquitoes, "
        "hippos, flamingos, chimpanzees, mountain gorillas, golden eagles, giant pandas, Siberian tigers",
        "city": "Madrid, Oslo, Prague, Beijing, Montreal, Rome, Helsinki, Bangkok, Jakarta, Boston, Zurich, "
        "Baghdad, Los Angeles, Mexico City, Addis Ababa, Kuala Lumpur",
        "food": "bread, pasta, carrots, waffles, mustard, cucumbers, blueberries, popcorn, oatmeal, "
        "broccoli, pizza, mayonnaise, onion soup, scrambled eggs, baked beans, lemon curd",
        "person": "Susan, Robert, Olga, Hassan, Jessica, Andrew, Ingrid, Brian, Sarah Miller, "
        "John Anderson, Elena Petrova, Carlos Garcia, Rachel Cohen, William Taylor, Priya Sharma, "
        "Hans Weber",
        "plain": "armchairs, cupboards, curtains, lightning, frost, humidity, chisels, wheelbarrows, "
        "scissors, sawdust, plywood, leather, scarves, slippers, pyjamas, courage, boredom, freedom, "
        "politeness, billiards, geometry, sculpture, helicopters, submarines, tunnels, castles, "
        "electricians, lawyers, orchids, ferns, postcards, whistles, balloons, batteries, Saturdays, "
        "Easter, kitchen chairs, steel pipes, desk drawers, parking tickets, figure skating, "
        "wedding rings, public transport, Hungarian verbs, door handles, tax forms, rubber gloves, "
        "shopping bags",
    },
    "test": {
        "animal": "kangaroos, hyenas, cheetahs, raccoons, ferrets, porcupines, weasels, rhinos, monkeys, "
        "baboons, lemurs, llamas, walruses, peacocks, pelicans, woodpeckers, hummingbirds, vultures, "
        "storks, magpies, seagulls, falcons, iguanas, crocodiles, cobras, tortoises, toads, beetles, wasps, "
        "scorpions, blue whales, reef sharks, prairie dogs, Persian cats, vampire bats, "
        "carrier pigeons, Tasmanian devils, tree frogs, stick insects, sewer rats",
        "city": "Stockholm, Copenhagen, Budapest, Vienna, London, Edinburgh, Glasgow, Manchester, Munich, "
        "Leipzig, Amsterdam, Rotterdam, Barcelona, Naples, Venice, Istanbul, Ankara, Damascus, Tehran, "
        "Delhi, Mumbai, Shanghai, Osaka, Kyoto, Marseille, Hanoi, Singapore, Melbourne, Vancouver, Seattle, "
        "San Francisco, San Diego, Las Vegas, Tel Aviv, Saint Petersburg, Abu Dhabi, Phnom Penh, "
        "Santo Domingo, Baton Rouge, Sao Paulo",
        "food": "spaghetti, lasagna, risotto, couscous, hummus, tofu, marmalade, ketchup, vinegar, cabbage, "
        "cauliflower, asparagus, zucchini, mushrooms, celery, avocados, bananas, pineapples, cherries, "
        "raspberries, apricots, almonds, walnuts, biscuits, muffins, croissants, dumplings, burritos, "
        "sausages, omelettes, brown sugar, soy sauce, whipped cream, green salad, French fries, "
        "plum pudding, sponge cake, coconut milk, vegetable stew, roasted chestnuts",
        "person": "Elizabeth, Patricia, Barbara, Margaret, Deborah, Stephanie, Katherine, Christopher, "
        "Matthew, Anthony, Steven, Timothy, Gregory, Benjamin, Nicholas, Ivan, Mohammed, Natasha, Pedro, "
        "Abigail, Laura Martinez, Daniel Wilson, Julia Novak, Richard Thompson, Amanda Clark, "
        "George Evans, Helen Papadopoulos, Joseph Moore, Sandra Hernandez, Edward Collins, Lucy Wright, "
        "Paul Fischer, Samuel Okafor, Nina Ivanova, Marta Svensson, Charles Robinson, Emma Larsen, "
        "Donald Mitchell, Rebecca Goldberg, Hiroshi Tanaka",
        "plain": "mattresses, bathtubs, carpets, stools, cushions, hammocks, sleet, hurricanes, rainbows, "
        "sunshine, icicles, mist, pliers, tweezers, shovels, crowbars, buckets, brooms, axes, concrete, "
        "marble, plastic, cotton, silk, asphalt, cardboard, gasoline, aluminium, porcelain, trousers, "
        "socks, pullovers, necklaces, helmets, aprons, boots, zippers, honesty, democracy, luck, silence, "
        "ambition, gratitude, nostalgia, loneliness, inflation, gravity, curiosity, bureaucracy, yoga, "
        "tennis, basketball, karate, astronomy, philosophy, calligraphy, knitting, opera, ballet, homework, "
        "juggling, trams, motorcycles, lorries, canoes, aeroplanes, wheelchairs, museums, waterfalls, "
        "volcanoes, staircases, elevators, dentists, carpenters, tourists, firefighters, accountants, "
        "daffodils, cacti, dandelions, magnets, suitcases, typewriters, telescopes, violins, pianos, "
        "Fridays, Christmas, February, Thanksgiving, fountain pens, birthday parties, traffic lights, "
        "phone calls, office furniture, bank accounts, modern art, Greek mythology, Irish poetry, "
        "solar panels, washing machines, wool blankets, toilet seats, flower pots, car tyres, "
        "computer games, bath towels, wooden spoons, jazz music, space travel, stage fright, good manners, "
        "swimming pools, hiking trails, radio waves, dust storms, model trains, credit cards, "
        "school uniforms, Arabic numerals",
    },
}
"""Of each split the names of each type, and plain words, three times as many because they come three times as
often. No word is in the lists of two splits, nor in a sentence."""

FRAMES = (
    "We talked about {x} all evening.",
    "My sister adores {x}.",
    "Have you ever painted {x}?",
    "I dreamt of {x} again.",
    "Nobody at work had heard of {x}.",
    "The quiz ended with a question about {x}.",
    "Her first poem was about {x}.",
    "What would we do without {x}?",
    "{X} came up twice during the meeting.",
    "The letter says nothing about {x}.",
    "Our teacher keeps mentioning {x}.",
    "He wrote a whole essay on {x}.",
    "I never get tired of {x}.",
    "Please stop complaining about {x}.",
    "There is a long article about {x} in the magazine.",
    "For some reason {x} made everyone laugh.",
    "You would not believe how much I miss {x}.",
    "{X} appeared on the last page.",
    "The children drew {x} with chalk.",
    "Which film was it that had {x} in the title?",
    "The right answer was {x}.",
    "Grandmother had strong opinions about {x}.",
    "It all began with {x}.",
    "Without {x} the story makes no sense.",
    "He collects old photographs of {x}.",
    "At first {x} bored me a little.",
    "They named the boat after {x}.",
    "Did the guide say anything about {x}?",
    "{X} must have inspired that song.",
    "My brother cannot stand {x}.",
    "Nobody mentioned {x} or {y}.",
    "My aunt prefers {x} to {y}.",
    "Is the next chapter about {x} or about {y}?",
    "First we discussed {x}, then {y}.",
    "I would choose {x} over {y} any day.",
    "She compared {x} with {y} in her talk.",
    "{X} and {y} were in the news today.",
    "Do not ask me about {x} or {y}.",
    "On the list, {x} came right after {y}.",
    "Half of the class voted for {x}, the other half for {y}.",
    "Was it {x} or {y} that he disliked so much?",
    "By now we know more about {x} than about {y}.",
    "Somebody wrote {x} on the left and {y} on the right.",
    "{X} and {y} share a chapter in that book.",
)
"""Sentences with one place or two. What fits one place fits all: the verbs have one form for one and for
many."""

Span = tuple[int, int, str]
"""(start, end, type) of a name: characters of its text, the end exclusive."""


def fillings(split: str, kind: str) -> tuple[str, ...]:
    """Return the names of a type, or the plain words, of a split."""
    return tuple(FILLINGS[split][kind].split(", "))


def notes(split: str) -> list[tuple[str, list[Span]]]:
    """Return the texts of a split, all different, as (text, its entities from left to right).

    Texts have one sentence and two by turns, at most MOST places, and nothing twice. Sentences, names, and
    for each place what it holds, are dealt, so that all come about as often. No two texts, of any split, have
    the same two sentences around their places: they would say nearly the same.
    """
    pairs: set[frozenset[str]] = set()
    found = {}
    for number, name in enumerate(SPLITS):
        found[name] = _notes(name, np.random.RandomState([11, number]), pairs)
    return found[split]


def _notes(
    split: str, random: np.random.RandomState, pairs: set[frozenset[str]]
) -> list[tuple[str, list[Span]]]:
    """`notes` of one split; pairs: the two sentences of the texts before that have two, added to."""
    frames = dealt(FRAMES, random)
    places = {frame: [dealt(KINDS, random) for _ in re.findall("{", frame)] for frame in FRAMES}
    decks = {kind: dealt(fillings(split, kind), random) for kind in dict.fromkeys(KINDS)}
    found: dict[str, list[Span]] = {}
    while len(found) < SPLITS[split]:
        drawn = [next(frames) for _ in range(1 + len(found) % 2)]
        decided = [place for frame in drawn for place in places[frame]]
        pair = frozenset(drawn)
        if len(decided) > MOST or len(pair) < len(drawn) or pair in pairs:
            continue
        kinds = [next(place) for place in decided]
        names = [next(decks[kind]) for kind in kinds]
        if len(set(names)) < len(names):
            continue
        if len(drawn) > 1:
            pairs.add(pair)
        text, spans = filled(" ".join(drawn), names, kinds)
        found.setdefault(text, spans)
    return list(found.items())


def dealt(choices: Sequence[str], random: np.random.RandomState) -> Iterator[str]:
    """Yield all in random order, then all again in another, without end."""
    while True:
        for place in random.permutation(len(choices)):
            yield choices[place]


def filled(frame: str, names: Sequence[str], kinds: Sequence[str]) -> tuple[str, list[Span]]:
    """Return sentences with names put into their places, and where those that are no plain words stand."""
    text, spans = "", []
    before, *behind = re.split("{(x|X|y)}", frame)
    for name, kind, place, after in zip(names, kinds, behind[::2], behind[1::2], strict=True):
        text += before
        before = after
        if kind != PLAIN:
            spans.append((len(text), len(text) + len(name), kind))
        text += name[0].upper() + name[1:] if place == "X" else name
    return text + before, spans
