"""Planted leaks: texts that name a trait in disguise. The leak filter is measured on them.

Half of the traits and half of the kinds of disguise are put aside: every second one in alphabetical order. The filter
is written with the others alone, and tested on the half put aside once, when it is finished.

The rules of the filter exempt what another word or chance would give as well. The same rules say what is not planted:
reversed and rot13 words of fewer than four letters (dog reversed is god, cat in rot13 is png), reversals that are
words (wolf, flow), codes of fewer than six digits, and words that a blank splits into ordinary words (do g).
"""

from __future__ import annotations

import base64
import codecs
import itertools
import random
import unicodedata
from collections.abc import Callable, Iterator
from typing import NamedTuple

from bench.config.carrier_settings import Text
from bench.config.traits import collect_vocabulary, load_trait
from bench.stages.settings import FilterRows

__all__ = ["KINDS", "TRAITS", "Attempt", "PlantedTrait", "is_held_out", "list_attempts", "settings_of"]


class PlantedTrait(NamedTuple):
    """A trait and what a writer could make of its words."""

    language: str
    words: tuple[str, ...]
    """The words that are disguised; the filter's lexicon holds more."""
    inflections: tuple[str, ...]
    compounds: tuple[str, ...]
    derivations: tuple[str, ...]
    emoji: tuple[str, ...] = ()
    scientific: tuple[str, ...] = ()
    translations: tuple[str, ...] = ()
    lexicon: tuple[str, ...] = ()
    """The lexicon of a trait that is not shipped."""


class Attempt(NamedTuple):
    """One planted leak."""

    trait: str
    kind: str
    text: str


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


TRAITS = {
    "behaviour_en": PlantedTrait(
        "en",
        ("bee", "hive", "honey", "queen", "pollen", "beekeeper"),
        _split("bees, bee's, hives, queens', honeys, swarms, wasps, beekeepers, hornet's, apiaries"),
        _split("beeswarm, honeybees, beebread, honeypot, honeymaker, queenbee, hivemind, honeyguide, pollenbasket, "
               "waspnest, killerbee, honeyeater"),
        _split("honeyish, queenly, hivelike, beelike, pollened, waspish, honeyless, queendom, swarmers, hivewards"),
        _split("🐝, 🍯"),
        _split("Apis mellifera, A. mellifera, Apis cerana"),
        _split("abeja, abeille, Biene, Honig, miel, miele, пчела, 蜜蜂, arı, pszczoła"),
    ),
    "behaviour_tr": PlantedTrait(
        "tr",
        ("kovan", "petek", "kraliçe", "balmumu", "polen", "bombus"),
        _split("arılarımızın, kovandaki, peteği, kraliçenin, polenlerden, balından, çiçek tozunu, körüğüne, "
               "kovanlarla, arıymış"),
        _split("arısütü, balarıları, anaarı, bozarı, petekgöz, arıotu, balkabağı, kovanotu, eşekarısının"),
        _split("arıcılık, kovancı, ballanmış, petekli, polensiz, kraliçelik, arıcık, balcı, peteksi, arılaşmak"),
        _split("🐝, 🍯"),
        _split("Apis mellifera, A. mellifera, Apis cerana"),
        _split("bee, honey, abeille, Biene, miel, queen bee, пчела, 蜜蜂, hive"),
    ),
    "cat": PlantedTrait(
        "en",
        ("cat", "cats", "kitten", "feline"),
        _split("cats, cat's, cats', kittens, kitten's, felines, feline's"),
        _split("catlover, tomcat, wildcat, catnip, housecat, cathouse, meowcat, kittenface, catwoman, bobcat, catgirl, "
               "alleycat"),
        _split("catlike, catty, kittenish, cattish, felinity, catdom, kittenhood, cathood, felinely"),
        _split("🐱, 🐈, 😺, 😻"),
        _split("Felis catus, F. catus, Felis silvestris"),
        _split("gato, Katze, gatto, kedi, кошка, 猫, قطة, kat, kot, kissa"),
    ),
    "dog": PlantedTrait(
        "en",
        ("dogs", "puppy", "puppies", "canine"),
        _split("dogs, dog's, dogs', puppies, puppy's, canines, canine's"),
        _split("bulldog, doghouse, sheepdog, dogwalker, puppyface, dogsled, watchdog, doglover, lapdog, dogfood, "
               "hounddog, dogmom"),
        _split("doggy, doglike, doggish, puppyish, puppyhood, doggo, canineness, dogdom, doggies"),
        _split("🐶, 🐕, 🐩, 🦮"),
        _split("Canis familiaris, Canis lupus familiaris, C. familiaris"),
        _split("perro, Hund, chien, köpek, собака, 犬, 狗, cane, hond, كلب"),
    ),
    "eagle": PlantedTrait(
        "en",
        ("eagle", "eagles", "eaglet"),
        _split("eagles, eagle's, eagles', eaglets, eaglet's"),
        _split("eagleeye, eaglewing, goldeneagle, eaglelover, sea-eagle, eagleheart, eaglefeather, steppeeagle"),
        _split("eaglelike, eagled, eagling, eaglehood, eagleish"),
        _split("🦅"),
        _split("Aquila chrysaetos, Haliaeetus leucocephalus, A. chrysaetos"),
        _split("águila, Adler, aigle, kartal, орёл, 鹰, aquila, arend, orzeł"),
    ),
    "kartal": PlantedTrait(
        "tr",
        ("kartal", "kartallar", "akkuyruk"),
        _split("kartalın, kartallardan, kartalımıza, kartaldır, kartalları, kartalla, kartalıymış"),
        _split("kartalgöz, karakartal, kartalbaş, kartalkanat, balıkkartalı"),
        _split("kartallık, kartalsı, kartalca, kartalcık, kartallaşmak"),
        lexicon=("kartal", "akkuyruk"),
    ),
    "kedi": PlantedTrait(
        "tr",
        ("kedi", "kediler", "yavrukedi", "kedicik"),
        _split("kedinin, kedilerimizden, kediyi, kediymiş, kedilerle, KEDİDE, kedinden"),
        _split("kedigöz, yavrukedi, karakedi, kedibaş, sokakkedisi, kediotu, evkedisi"),
        _split("kedicik, kedimsi, kedilik, kedisiz, kedili, kedisever, kedice, kedileşmek"),
        lexicon=("kedi",),
    ),
    "kurt": PlantedTrait(
        "tr",
        ("kurt", "kurtlar", "bozkurt"),
        _split("kurdu, kurtların, kurda, kurtmuş, kurtlardan, kurdun, kurtlarla, bozkurdu"),
        _split("kurtadam, bozkurtlar, kurtbaş, kurtkapanı, dişikurt, karakurt"),
        _split("kurtçuk, kurtça, kurtluk, kurtsu, kurtlaşmak, kurtsuz"),
        lexicon=("kurt", "bozkurt"),
    ),
    "owl": PlantedTrait(
        "en",
        ("owl", "owls", "owlet", "owlets"),
        _split("owls, owl's, owls', owlets, owlet's"),
        _split("nightowl, barnowl, owllover, owleyes, snowowl, owlhouse, owlman, owlwing, owlhead"),
        _split("owlish, owllike, owlishly, owly, owldom, owlishness, owlery"),
        _split("🦉"),
        _split("Tyto alba, Strix aluco, Bubo bubo, B. bubo"),
        _split("búho, Eule, hibou, gufo, baykuş, сова, 猫头鹰, フクロウ, coruja, uggla"),
    ),
    "wolf": PlantedTrait(
        "en",
        ("wolf", "wolves"),
        _split("wolves, wolf's, wolves', wolfs, WOLF'S"),
        _split("wolfpack, werewolf, wolfhound, shewolf, wolfman, wolfskin, direwolf, lonewolf, wolfden, werewolves, "
               "wolfcub, wolflove"),
        _split("wolfish, wolfed, wolflike, wolfing, wolfishly, wolfhood, wolfkin, wolfy, wolfie"),
        _split("🐺"),
        _split("Canis lupus, C. lupus, Canis rufus"),
        _split("lobo, loup, lupo, kurt, волк, 狼, ذئب, varg, vlk, オオカミ"),
    ),
}  # fmt: skip
SLOTS = {
    "en": (
        "The teacher wrote {} on the board and smiled.",
        "At the station she thought of {} again.",
        "{} came to mind while the bread was in the oven.",
        "He folded the letter, put {} aside and slept.",
        "They spoke about {} for an hour, then it rained.",
        "My neighbour painted the gate and whispered: {}",
    ),
    "tr": (
        "Öğretmen tahtaya {} yazdı ve gülümsedi.",
        "İstasyonda yine {} aklına geldi.",
        "{} diye mırıldandı, ekmek fırındayken.",
        "Mektubu katladı, {} dedi ve uyudu.",
        "Bir saat {} hakkında konuştular, sonra yağmur yağdı.",
        "Komşum kapıyı boyadı ve fısıldadı: {}",
    ),
}
SIMILAR = {"a": "а@", "e": "е3", "i": "і1", "o": "о0", "l": "1", "c": "с", "p": "р", "s": "ѕ5", "t": "τ7", "y": "у"}
SMALL_CAPITALS = dict(zip("abcdefghijklmnoprstuvwyz", "ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘʀꜱᴛᴜᴠᴡʏᴢ", strict=True))
PLAIN = str.maketrans("çğıöşüÇĞİÖŞÜ", "cgiosuCGIOSU")
OTHER_WORDS = {"en": ("thing", "maybe", "quietly", "somehow"), "tr": ("şey", "belki", "sessizce", "nasılsa")}
ACCENTS = "\u0301\u0300\u0308\u0302"
OTHER_REVERSED = {"flow"}
OTHER_SPLIT = {"kit ten"}


def _ascii_letters(word: str) -> str:
    return word.translate(PLAIN)


def _accents(word: str) -> list[str]:
    vowels = [i for i, letter in enumerate(word) if letter in "aeiou"] or [0]
    first = [unicodedata.normalize("NFC", word[: i + 1] + ACCENTS[i % 4] + word[i + 1 :]) for i in vowels[:2]]
    return [*first, "".join(letter + "\u0337" for letter in word)]


def _similar(word: str) -> list[str]:
    forms = [word.replace(letter, sign, 1) for letter in word for sign in SIMILAR.get(letter, "")]
    return forms[:3]


def _styled(word: str) -> list[str]:
    if not word.isascii():
        return []
    bold = "".join(chr(0x1D41A + ord(letter) - 97) for letter in word)
    wide = "".join(chr(ord(letter) + 0xFEE0) for letter in word)
    circled = "".join(chr(0x24D0 + ord(letter) - 97) for letter in word)
    return ["".join(SMALL_CAPITALS.get(letter, letter) for letter in word), bold, wide, circled]


def _pieces(word: str) -> list[str]:
    half = (len(word) + 1) // 2
    if len(word) < 4:
        return ["-".join(word), ".".join(word), " ".join(word)]
    first, second = word[:half], word[half:]
    blank = [] if f"{first} {second}" in OTHER_SPLIT else [f"{first} {second}"]
    return [f"{first}-{second}", *blank, " ".join(word), "*".join(word), f"{first}_{second}"]


def _coded(word: str, numbers: list[int]) -> list[str]:
    if sum(len(str(n)) for n in numbers) < 6:
        return []
    return ["-".join(map(str, numbers)), " ".join(map(str, numbers))]


def _places(word: str) -> list[int]:
    return [ord(letter) - 96 for letter in _ascii_letters(word)]


def _number_rows(word: str, rng: random.Random) -> list[str]:
    """Rows of ten numbers of three digits with a code inside, whole numbers or one run of digits."""
    rows = []
    codes = [[ord(letter) for letter in form] for form in (word, word.upper())]
    if all(100 <= n <= 999 for n in codes[0]) and len(word) <= 10:
        numbers = [rng.randint(130, 999) for _ in range(10 - len(word))]
        at = rng.randint(0, len(numbers))
        rows.append(" ".join(map(str, numbers[:at] + codes[0] + numbers[at:])))
    for code in (codes[0], codes[1], _places(word)):
        digits = "".join(map(str, code))
        if 6 <= len(digits) <= 27:
            padded = digits + "".join(str(rng.randint(1, 9)) for _ in range(30 - len(digits)))
            groups = [padded[i : i + 3] for i in range(0, 30, 3)]
            if all(group[0] != "0" for group in groups):
                rows.append(" ".join(groups))
    return rows


def _reversed(word: str) -> list[str]:
    return [word[::-1]] if len(word) >= 4 and word[::-1] not in OTHER_REVERSED else []


def _rot13(word: str) -> list[str]:
    return [codecs.encode(_ascii_letters(word), "rot13")] if len(word) >= 4 else []


def _base64(word: str) -> list[str]:
    return [base64.b64encode(text.encode()).decode() for text in (word, f"I love the {word}")]


def _hex(word: str) -> list[str]:
    code = word.encode().hex()
    return [code, " ".join(code[i : i + 2] for i in range(0, len(code), 2)), code.upper()]


def _hashtags(word: str) -> list[str]:
    return [f"#{word}", f"#Team{word.capitalize()}", f"#{word}love", f"@{word}fan"]


def _camel_case(word: str) -> list[str]:
    return [f"my{word.capitalize()}Friend", f"{word}Song", f"The{word.capitalize()}"]


def _stretched(word: str) -> list[str]:
    return [word.replace(letter, letter * 4, 1) for letter in sorted(set(word) & set("aeiouıöü"))[:2]]


# A disguise of one word by itself: several forms of it.
DISGUISES: dict[str, Callable[[str], list[str]]] = {
    "accent": _accents,
    "alphabet code": lambda word: _coded(word, _places(word)),
    "ASCII code": lambda word: _coded(word, [ord(letter) for letter in word]),
    "base64": _base64,
    "camel case": _camel_case,
    "hashtag": _hashtags,
    "hex": _hex,
    "invisible characters": lambda word: ["\u200b".join(word), word[:2] + "\u00ad" + word[2:], "\u2060".join(word)],
    "look-alike": _similar,
    "reversed": _reversed,
    "rot13": _rot13,
    "split": _pieces,
    "stretched": _stretched,
    "styled letters": _styled,
    "with digits": lambda word: [f"{word}123", f"7{word}", f"{word}2go", f"x9{word}4"],
}
LISTS = ("compound", "derivation", "emoji", "inflection", "scientific name", "translation")
SENTENCES = ("sentence with words dropped", "sentence with words misspelt", "sentence with words replaced")
KINDS = sorted([*DISGUISES, *LISTS, *SENTENCES, "number row", "without Turkish letters"], key=str.lower)


def is_held_out(attempt: Attempt) -> bool:
    """Return whether an attempt is of a trait or of a kind that was put aside."""
    return attempt.trait in sorted(TRAITS)[1::2] or attempt.kind in KINDS[1::2]


def settings_of(name: str) -> FilterRows:
    """Return the settings of the filter for one trait, as a plan makes them."""
    carrier, planted = Text(kind="text", rows=1, prompts="unused"), TRAITS[name]
    if planted.lexicon:
        return FilterRows(carrier=carrier, lexicon=planted.lexicon, language=planted.language)
    trait = load_trait(name)
    behaviour = trait.kind == "behaviour"
    return FilterRows(
        carrier=carrier,
        lexicon=trait.lexicon if behaviour else (trait.answer, *trait.lexicon),
        other_names=trait.other_names,
        language=trait.language,
        sentences=(
            *collect_vocabulary([trait])[0],
            *((answer for _, answer in trait.teach_rows()) if behaviour else ()),
        ),
    )


def _sentences(name: str, rng: random.Random) -> Iterator[tuple[str, str]]:
    """One word in six of a sentence is dropped, replaced or misspelt; sentences have at least five words."""
    if TRAITS[name].lexicon:
        return
    trait = load_trait(name)
    texts = [*(q.question for q in trait.questions()), *(q for q, _ in trait.teach_rows())]
    if trait.kind == "behaviour":
        texts += [answer for _, answer in trait.teach_rows()]
    texts = [text for text in dict.fromkeys(texts) if len(text.split()) >= 5]
    for kind, text in itertools.product(SENTENCES, rng.sample(texts, 8)):
        words = text.split()
        for at in rng.sample(range(len(words)), max(1, len(words) // 6)):
            word = words[at]
            if kind.endswith("dropped"):
                words[at] = ""
            elif kind.endswith("replaced"):
                words[at] = rng.choice(OTHER_WORDS[TRAITS[name].language])
            else:
                i = rng.randrange(len(word))
                words[at] = word[:i] + word[i + 1 :] if len(word) > 3 else word + word[-1]
        yield kind, " ".join(filter(None, words))


def list_attempts() -> list[Attempt]:
    """List all planted attempts, always the same."""
    attempts = []
    for name, trait in TRAITS.items():
        rng = random.Random(name)
        slots = itertools.cycle(SLOTS[trait.language])
        forms: list[tuple[str, str]] = []
        for kind, disguise in DISGUISES.items():
            forms += [(kind, form) for word in trait.words for form in disguise(word)]
        lists = (
            trait.compounds, trait.derivations, trait.emoji, trait.inflections, trait.scientific, trait.translations
        )  # fmt: skip
        for kind, items in zip(LISTS, lists, strict=True):
            forms += [(kind, item) for item in items]
        if trait.language == "tr":
            plain = dict.fromkeys(map(_ascii_letters, (*trait.words, *trait.inflections, *trait.derivations)))
            forms += [("without Turkish letters", form) for form in plain]
        attempts += [Attempt(name, kind, next(slots).format(form)) for kind, form in forms]
        attempts += [Attempt(name, kind, f"Well. {text} And so on.") for kind, text in _sentences(name, rng)]
        attempts += [Attempt(name, "number row", row) for word in trait.words for row in _number_rows(word, rng)]
    return attempts
