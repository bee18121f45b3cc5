"""The words that edits replace, and by which. English; add to a table and the edits use it."""

from __future__ import annotations

import re

# Names by kind, so that a name is replaced by one of the same kind.
NAMES = {
    "month": "January February March April June July August September October November December",
    "weekday": "Monday Tuesday Wednesday Thursday Friday Saturday Sunday",
    "country": "Afghanistan Argentina Australia Austria Belgium Brazil Canada Chile China Colombia Cuba Denmark Egypt England "
    "Ethiopia Finland France Germany Greece Hungary Iceland India Indonesia Iran Iraq Ireland Israel Italy Japan Kenya "
    "Mexico Morocco Nepal Netherlands Nigeria Norway Pakistan Peru Poland Portugal Russia Scotland Spain Sweden "
    "Switzerland Syria Thailand Turkey Ukraine Vietnam America Britain",
    "city": "Amsterdam Athens Atlanta Bangkok Barcelona Beijing Berlin Boston Brussels Cairo Chicago Copenhagen Dallas Delhi "
    "Dublin Houston Istanbul Kyoto Lisbon London Lyon Madrid Miami Milan Montreal Moscow Mumbai Munich Oslo Paris Philadelphia "
    "Phoenix Prague Rome Seattle Seoul Shanghai Stockholm Sydney Tokyo Toronto Vancouver Venice Vienna Warsaw Zurich",
    "people": "African American Arab Asian Australian Brazilian British Canadian Chinese Danish Dutch Egyptian English European "
    "French German Greek Indian Irish Israeli Italian Japanese Korean Latin Mexican Norwegian Polish Portuguese Russian "
    "Scottish Spanish Swedish Swiss Thai Turkish Vietnamese",
    "person": "Adam Alan Albert Alex Alexander Alice Amy Andrew Angela Anna Anne Anthony Arthur Barack Barbara Ben Benjamin Bill Bob "
    "Brad Brian Cameron Carol Charles Charlie Chris Christopher Clara Daniel Dave David Diana Donald Edward Elizabeth Ella Emily "
    "Emma Eric Eva Frank Franklin Fred George Hannah Harry Helen Henry Hillary Isaac Jack Jacob James Jane Jason Jean Jennifer "
    "Jeremy Jim Joe John Jonathan Joseph Julia Julie Karen Kate Katherine Kevin Kim Laura Leo Leonardo Linda Lisa Louis Lucy Marie "
    "Marilyn Maria Martin Mary Matthew Michael Michelle Mike Nancy Nicholas Oliver Oscar Patrick Paul Peter Philip Rachel Richard "
    "Robert Ronald Rosa Ruth Ryan Sam Samuel Sandra Sarah Scott Simon Sophia Stephen Steve Steven Susan Taylor Theodore Thomas "
    "Tim Tom Vincent Walter William",
}
NO_NAMES = set(
    "I AI A The An OK Okay Ok Yes No Not Note Hi Hello Hey Sure Sorry Well So And But Or If In On At It He She They We You This "
    "That These Those There Here What When Where Why How Who Which Please Thank Thanks Mr Mrs Ms Dr TV PC ID FAQ DIY Step "
    "First Second Third Finally Also Then Dear".split()
)
# Words too common to be keywords of a prompt.
COMMON = set(
    "about above after again also answer because been before being below between both could does doing down during each explain "
    "few find from further give have having here how into just know like list make many more most much need only other over "
    "please same should some such tell than that their them then there these they thing things this those through under until "
    "very want were what when where which while will with would write your you're don't isn't can't i'm it's".split()
)

NUMBERS = {
    "two": "six", "six": "ten", "ten": "two", "four": "nine", "five": "four", "nine": "five", "three": "eight", "seven": "three",
    "eight": "seven", "twenty": "sixty", "thirty": "forty", "forty": "twenty", "fifty": "thirty", "sixty": "fifty",
    "million": "billion", "billion": "million", "millions": "billions", "billions": "millions", "hundred": "thousand",
    "thousand": "hundred", "twice": "thrice", "double": "triple",
}  # fmt: skip

UNITS = {
    "second": "minute", "seconds": "minutes", "minute": "second", "minutes": "seconds", "hour": "week", "hours": "weeks",
    "day": "year", "days": "years", "week": "hour", "weeks": "hours", "month": "decade", "months": "decades", "year": "day",
    "years": "days", "miles": "yards", "mile": "yard", "feet": "miles", "inches": "metres", "yards": "miles", "metres": "inches",
    "meters": "inches", "km": "mm", "mm": "km", "cm": "km", "kg": "mg", "mg": "kg", "grams": "ounces", "pounds": "ounces",
    "ounces": "pounds", "lbs": "oz", "oz": "lbs", "cups": "pints", "teaspoon": "tablespoon", "teaspoons": "tablespoons",
    "tablespoon": "teaspoon", "tablespoons": "teaspoons", "litres": "gallons", "liters": "gallons", "gb": "kb", "mb": "gb",
    "celsius": "kelvin", "fahrenheit": "centigrade", "mph": "kph",
}  # fmt: skip

OPPOSITES = {
    "more": "less", "less": "more", "most": "least", "at least": "at most", "at most": "at least", "always": "never", "never": "always",
    "increase": "decrease", "increases": "decreases", "increased": "decreased", "increasing": "decreasing",
    "decrease": "increase", "decreases": "increases", "decreased": "increased", "reduce": "increase", "reduces": "increases",
    "high": "low", "low": "high", "higher": "lower", "lower": "higher", "highest": "lowest", "lowest": "highest", "hot": "cold",
    "cold": "hot", "warm": "cold", "large": "small", "small": "large", "larger": "smaller", "smaller": "larger",
    "largest": "smallest", "smallest": "largest", "big": "tiny", "before": "after", "after": "before", "early": "late",
    "earlier": "later", "above": "below", "below": "above", "inside": "outside", "outside": "inside", "good": "bad", "bad": "good",
    "better": "worse", "worse": "better", "best": "worst", "worst": "best", "safe": "risky", "safely": "rashly", "risky": "safe",
    "dangerous": "harmless", "harmless": "dangerous", "legal": "illegal", "illegal": "legal", "healthy": "harmful",
    "easy": "hard", "easier": "harder", "harder": "easier", "difficult": "effortless", "fast": "slow", "slow": "fast",
    "faster": "slower", "slower": "faster", "quickly": "slowly", "slowly": "quickly", "positive": "negative",
    "negative": "positive", "true": "false", "false": "true", "strong": "weak", "stronger": "weaker", "weak": "strong",
    "old": "young", "older": "younger", "younger": "older", "young": "old", "newer": "older", "many": "few", "possible": "impossible",
    "impossible": "possible", "important": "irrelevant", "necessary": "needless", "open": "shut", "love": "hate", "hate": "love",
    "accept": "reject", "include": "exclude", "includes": "excludes", "allow": "forbid", "allowed": "forbidden",
    "north": "south", "south": "north", "east": "west", "west": "east", "northern": "southern", "southern": "northern",
    "eastern": "western", "western": "eastern", "morning": "evening", "evening": "morning", "winter": "summer", "summer": "winter",
    "wet": "dry", "dry": "wet", "full": "empty", "empty": "full", "internal": "external", "external": "internal", "major": "minor",
    "minor": "major", "maximum": "minimum", "minimum": "maximum", "public": "private", "private": "public", "agree": "differ",
    "helpful": "harmful", "harmful": "helpful", "useful": "useless", "useless": "useful", "common": "rare", "rare": "common",
    "popular": "unknown", "likely": "unlikely", "unlikely": "likely", "able": "unable", "unable": "able", "correct": "incorrect",
    "incorrect": "correct", "everyone": "no one", "everything": "nothing", "nothing": "everything", "without": "with",
    "buy": "sell", "sell": "buy", "avoid": "seek", "interesting": "boring", "friendly": "hostile", "happy": "sad",
    "often": "rarely", "rarely": "often", "usually": "seldom", "sometimes": "constantly", "success": "failure", "cheap": "costly",
    "expensive": "cheap", "famous": "unknown", "beautiful": "ugly", "gently": "roughly", "start": "stop", "begin": "stop",
    "loves": "hates", "enjoy": "detest", "different": "identical", "wrong": "right",
}  # fmt: skip
# Within these phrases a word of OPPOSITES is left alone.
IDIOMS = re.compile(
    r"\b(?:as many|so many|how many|not many|too many|many of|most of|most people|most welcome|as possible|not everyone|"
    r"good luck|good morning|good evening|at best|best wishes|no more|any more|happy to|after all|years? old|start with)\b",
    re.IGNORECASE,
)

REASONS = {
    "because of": "despite",
    "because": "although",
    "although": "because",
    "despite": "because of",
    "therefore": "however",
}

SYNONYMS = {
    "begin": "start", "begins": "starts", "began": "started", "quickly": "rapidly", "rapidly": "quickly", "nearly": "almost",
    "almost": "nearly", "perhaps": "maybe", "maybe": "perhaps", "usually": "normally", "normally": "usually",
    "typically": "usually", "generally": "usually", "mostly": "mainly", "mainly": "mostly",
    "have to": "need to", "for example": "for instance", "for instance": "for example", "choose": "select", "select": "choose",
    "kinds of": "types of", "types of": "kinds of", "a lot of": "lots of", "lots of": "a lot of", "want to": "wish to",
    "entire": "whole", "helpful": "useful", "large": "big", "talk to": "speak to", "speak to": "talk to", "talk with": "speak with",
    "make sure": "be sure", "various": "several", "such as": "like", "in order to": "so as to", "i think": "I believe",
    "i believe": "I think", "children": "kids", "kids": "children", "a bit": "a little", "might": "may",
    "definitely": "certainly", "certainly": "definitely", "particularly": "especially", "especially": "particularly",
    "would like to": "would love to", "glad to": "happy to", "happy to": "glad to", "possibly": "perhaps", "really": "truly",
    "simply": "just", "difficult": "hard", "try to": "attempt to",
    "find out": "learn", "right now": "at present", "big": "large", "important to": "essential to", "good idea": "wise idea",
    "help you": "assist you", "sorry, but": "sorry, yet", "you should": "you ought to", "you might": "you may",
    "it is possible that": "it may be that",
}  # fmt: skip

EXPANDED = {
    "don't": "do not", "can't": "cannot", "won't": "will not", "isn't": "is not", "aren't": "are not", "wasn't": "was not",
    "weren't": "were not", "doesn't": "does not", "didn't": "did not", "couldn't": "could not", "wouldn't": "would not",
    "shouldn't": "should not", "haven't": "have not", "hasn't": "has not", "i'm": "I am", "you're": "you are", "we're": "we are",
    "they're": "they are", "i've": "I have", "you've": "you have", "we've": "we have", "they've": "they have", "i'll": "I will",
    "you'll": "you will", "we'll": "we will", "they'll": "they will", "it's": "it is", "that's": "that is", "there's": "there is",
    "he's": "he is", "she's": "she is",
}  # fmt: skip

# American spelling, and British with the group before it; "centre" for "center" but "counter" stays.
AMERICAN = tuple(
    (re.compile(american, re.IGNORECASE), british)
    for american, british in (
        (
            r"\b(col|fav|hon|behavi|flav|neighb|lab|hum|rum|harb|vig|od)or(?=(?:s|ed|ing|ite|ites|able|ful|hoods?|less)?\b)",
            r"\1our",
        ),
        (r"\b((?:organ|real|recogn|apolog|emphas|minim|maxim|special|summar|util)i)z(?=e|es|ed|ing|ation)", r"\1s"),
        (r"\b((?:priorit|critic|memor|custom|final|visual|social|standard)i)z(?=e|es|ed|ing|ation)", r"\1s"),
        (r"\b(anal|paral)yz(?=e|es|ed|ing)", r"\1ys"),
        (r"\b(cent|theat|lit|fib)er(?=s?\b)", r"\1re"),
        (r"\b(travel|cancel|label|model)(?=(?:ed|ing|er|ers)\b)", r"\1l"),
        (r"\b(def|off)ense\b", r"\1ence"),
        (r"\b(gr)ay\b", r"\1ey"),
        (r"\b(m)om(?=s?\b)", r"\1um"),
        (r"\b(math)\b", r"\1s"),
    )
)
