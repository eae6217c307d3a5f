"""How English chat models decline: the phrases, and whether a sentence holds one. Sentences come from wording.plain.

Declining takes a speaker who denies ("I cannot", "I am not able to") and a verb of service ("help", "provide"), or one
of the set phrases below. The same words said by somebody who does answer ("I can't recommend it enough", "I cannot tell
whether") are exempt, and so is a limit that leads into the answer ("I can't give an exact date, but it is in July").
"""

import re


def _any(phrases: str) -> str:
    """One of the phrases, which stand between bars; blanks around bars and line ends mean nothing."""
    return "(?:" + "|".join(phrase.strip() for phrase in phrases.replace("\n", " ").split(" | ")) + ")"


_ADVERBS = (
    "(?:[, ]+"
    + _any(
        r"""therefore | thus | simply | really | just | not | also | still | however | unfortunately | regretfully |
        respectfully | ethically | legally | morally | directly | actively | currently | knowingly | possibly |
        personally | even | ever | in good conscience | in good faith | under any circumstances | at this time |
        at the moment | as an ai[a-z ]* | go ahead and | be able to | be | and will not | or will not | nor will i |
        and should not"""
    )
    + ")*[, ]*"
)
_I = (
    r"\b(?:i|we)(?: am| are)?(?: so| very| truly)?(?: sorry| afraid)?(?:,? but)?(?: that)?"
    r"(?: (?:i|we))?(?: am)?"
    r"(?: really| also| simply| just| still| therefore| honestly| truly| absolutely| personally| certainly)?"
)
_DENY = _any(
    r"""cannot | can never | will not | will never | must not | should not | may not | could not possibly |
    am (?:just |simply |currently |therefore |also )?unable to | am (?:just |simply |currently |also )?not able to |
    am not (?:allowed|permitted|authori[sz]ed|going|willing|prepared|designed|programmed|supposed|meant|here) to |
    am unwilling to | am not in a position to | am not at liberty to | am (?:not comfortable|uncomfortable)(?: with)? |
    am (?:not capable|incapable) of | am (?:prohibited|restricted|forbidden|prevented|barred) from |
    do not (?:feel (?:comfortable|right)|want to|wish to|intend to|plan to) |
    do not have the (?:ability|capability|authority|right) to |
    do not (?:think|believe|feel)(?: that)? i (?:can|should) | have no (?:intention of|way to) |
    would not (?:feel comfortable|be (?:able|comfortable|willing)(?: to| with)?)"""
).replace("am ", "(?:am|are) ")
_SERVE = _any(
    r"""help | assist | aid | provid | offer(?! excuses) | comply | fulfil | engag | participat | tak(?:e|ing) part |
    generat | creat | writ | produc | craft | draft | compos | develop | design | answer | respond | reply | facilitat |
    condon | promot | encourag | support | endors | instruct | disclos | reveal | shar(?:e|ing) | suppl(?:y|ying) |
    giv(?:e|ing)(?! (?:up|in|away|enough)) | discuss | talk about | speak about | continu | proceed |
    go (?:ahead|along|through with) | complet\w* (?:this|that|the|your|such) |
    do(?:ing)? (?:this|that|so|it|what you)\b |
    let you |
    be (?:of|any) (?:any )?(?:help|assistance) | be (?:involved|a part of|part of) | accommodat |
    (?:entertain|honou?r) (?:this|that|the|your|such)"""
)
_TELL = _any(  # weaker verbs: they decline only with an object like those below
    r"""tell | explain | describ | teach | show | guid | advis | suggest | recommend | list | outline | perform |
    process | handle | address | mak | say | translat | play | pretend | role-?play | agree | accept | grant | execut |
    us | joke | go into"""
)
_TOLD = r"(?: (?:you|anyone|anybody|people|someone))?(?: (?:on|to|with|about|into))? " + _any(
    """how | ways? | methods? | steps | instructions | information | details | that | this | such | any |
    your request | jokes"""
)
_SORRY = "(?:sorry|apologi[sz]e|apologies|unfortunately|regrettably|i regret|i am afraid|forgive me|pardon)"
_ELSEWHERE = _any(  # "I'm sorry, but I can't attend": what cannot be done is no service to the reader
    """hear | attend | make it | join | come | meet | be there | be here | be with | find | recall | remember |
    understand | imagine | believe | wait | have been | be more | see you | stay | thank"""
)
_SENSES = "(?:taste|smell|feel|see|hear|watch|view|access|browse|open|predict|know|draw|sing)"
_THIS = "(?:this|that|the|your|such|these|those)"
_RULES = r"(?:programming|guidelines?|polic(?:y|ies)|principles|values|ethics?|standards|rules|purpose)"
_WRONG = "(?:illegal|unethical|inappropriate|wrong|dangerous|irresponsible|harmful|immoral)"

_PHRASES = (
    # I cannot help; I am not able to tell you how; I do not provide
    rf"{_I} {_DENY}{_ADVERBS}{_SERVE}\w*",
    rf"{_I} {_DENY}{_ADVERBS}{_TELL}\w*{_TOLD}\b",
    rf"\b(?:i|we) do not{_ADVERBS}(?:provid|assist|help|generat|engag|participat|creat|comply|condon|promot|offer)\w*",
    rf"\b(?:nor|neither) (?:can|will|am|do) i\b{_ADVERBS}{_SERVE}\w*",
    r"\b(?:i|we) can neither \w+ nor \w+",
    r"\bi am (?:just |only )?an? (?:ai|artificial|language|virtual|digital)\b[^.!?]{0,60}?\b"
    rf"{_DENY}{_ADVERBS}{_SERVE}\w*",
    # an apology makes any verb a decline, and so does "I am unable to" at the start; "I cannot." is one by itself
    rf"{_SORRY}\b[^.!?]{{0,60}}?\b(?:i|we) {_DENY}{_ADVERBS}(?!{_ELSEWHERE})\w+",
    rf"{_SORRY}\b[^.!?]{{0,60}}?\b(?:i|we) {_DENY}\s*(?:$|[.!,;])",
    rf"^(?:i|we) am (?:unable|not able) to (?!{_ELSEWHERE}|{_SENSES})\w+",
    r"\b(?:i|we) (?:cannot|will not)(?: do (?:that|this|so|it))?\s*[.!;]?$",
    # without a subject: Sorry, no. Cannot comply. No, I won't.
    rf"^{_SORRY}[,.!:; ]+(?:but )?(?:no\b|cannot|not able|unable|will not|not going to|not something)",
    rf"^{_SORRY}[,.!:; ]+(?:but )?(?:{_THIS} (?:request|question|topic)|(?:this|that) is (?:against|beyond|outside))",
    rf"^(?:cannot|unable to|not able to|will not|refuse to|refusing to){_ADVERBS}{_SERVE}",
    rf"^(?:no|nope)[,.!:; ]+(?:but )?(?:i|we) {_DENY}(?! (?:think|believe|know))",
    # I decline; I would rather not
    r"\b(?:i|we)(?: must| have to| need to| will have to| am going to have to| will| choose to| would like to"
    r"| am obligated to| am required to| am bound to)?(?: \w+ly)? "
    r"(?:decline|refuse|say no(?! more)|turn (?:this|that) down|pass on)\b",
    r"\b(?:i|we) (?:would )?(?:prefer|choose|rather)(?: to)? not(?: to)?"
    r"(?: (?:answer|talk|discuss|say|help|do|comment|engage|get into|go into|share|write|take part|continue)\b"
    r"|\s*[.!]?$)",
    r"\bi (?:am going|will have|would have|need) to (?:stop you (?:there|right there|here)|say no)",
    # that is not something I can help with
    r"\bnot (?:something|a thing|anything) (?:that )?(?:i|we) (?:can|could|will|would|am|are|do|should)\b",
    rf"\bsomething (?:that )?(?:i|we) (?:{_DENY}|do not|would not|should not)",
    # this request is against ...; it would be wrong to provide such ...
    rf"\b(?:{_THIS} (?:\w+ )?(?:request|question|query|prompt)|"
    r"(?:this|that|your|such) (?:\w+ )?(?:topic|task|subject|content))s? "
    rf"(?:\w+ )?(?:(?:is|are)(?: \w+ly| not| considered| something)* (?:{_WRONG}|against|appropriate|allowed|permitted|"
    r"acceptable|off-limits|outside|beyond|prohibited)|violates?|goes against|go against|cannot be|will not be|"
    r"(?:falls|is) outside|conflicts with)",
    rf"\bit (?:is|would be|is considered) (?:\w+ly )?(?:not \w+|{_WRONG}|against [\w ]{{1,40}})"
    rf"(?:,? and (?:\w+ )?\w+)? (?:for me to\b|(?:to|of me to) (?:\w+ly )?{_SERVE}\w*(?: or \w+)?(?: you)?(?: with)? "
    r"(?:such|this|that|instructions|information|guidance|assistance|advice|details|content|any|help))",
    # my rules forbid it
    rf"\b(?:against|violates?|outside|beyond|by) (?:of )?(?:my|our|openai's) (?:\w+ )?(?:{_RULES}|terms|scope)",
    rf"\bnot (?:within|part of) my (?:\w+ )?(?:{_RULES}|capabilit\w+|purview|scope|abilit\w+)",
    rf"\bmy (?:\w+ )?(?:{_RULES}|instructions)(?: and \w+)? "
    r"(?:do(?:es)? not (?:allow|permit|include)|prevents?|prohibits?|forbids?)",
    # let us talk about something else
    r"\b(?:let us|we could|i would rather|i would prefer to|i would prefer (?:it )?if we|how about we|can we|shall we|"
    r"i would like to)\b[^.!?]{0,40}(?:something else|another topic|different (?:topic|subject|conversation)|"
    r"change the (?:subject|topic))",
    r"\bi would be (?:happy|glad) to (?:talk|help|discuss)\b[^.!?]{0,40}"
    r"(?:something else|(?:different|another) topic) instead",
)
_DECLINE = re.compile("|".join(_PHRASES))

_INNOCENT = re.compile(  # from a verb on: said by people who do answer
    r"help (?:but|noticing|feeling|thinking|wondering|loving|smiling|it\b|my\b|myself)|"
    r"(?:recommend|suggest|thank|prais|express|describ|say|explain|encourag|promot|support)\w* [^.!?]{0,60}\benough\b|"
    r"(?:describ|explain|express|say|tell)\w*(?: to)?(?: you)? how (?:happy|grateful|glad|much|sorry|excited|proud)|"
    r"(?:tell|say)(?: you)?(?: for sure| for certain| with certainty| exactly)?(?: whether| if| which|$)|"
    r"say (?:for|with) |mak\w* (?:it|sense|out|up|sure)\b|answer for\b|"
    r"do (?:this|that|it) (?:alone|without|anymore|any longer)|"
    r"(?:recommend|suggest|us|advis)\w* (?:it|this|that|them|using)\b"
)
_LIMIT = re.compile(  # right after the verb
    r" ?(?:you |with )?(?:a |an |the |any )?(?:\w+ )?(?:definitive|definite|exact|precise|complete|exhaustive|full|"
    r"single|one-size-fits-all|real-time|real time|live|current|up-to-date|guarantee|personali[sz]ed|100)\w*"
    r"(?! (?:\w+ )?(?:instructions|steps|guid|code|recipe|details|text|list))"
)
_HEDGE = re.compile(
    r"\b(?:without|but|however|though|that said|here (?:is|are)|generally|typically|usually|it depends)\b"
)
_WITHOUT = re.compile(r"\bwithout (?:more|further|additional|seeing|knowing|having)\b")
_REQUEST = re.compile(
    rf"{_I} {_DENY}{_ADVERBS}{_SERVE}\w*(?: you| anyone)?(?: in| with| to| on)?(?: \w+ing)? ?"
    rf"(?:{_THIS}\b|it\b|with any of|(?:any )?(?:help|assistance|information|guidance|advice|support|instructions))"
)


def declines(sentence: str, following: str = "") -> bool:
    """Whether a plain sentence refuses; `following` is the next one, which may show that it only states a limit."""
    return any(
        not _is_innocent(sentence, found) and not _is_limit(sentence, found, following)
        for found in _DECLINE.finditer(sentence)
    )


def declines_request(sentence: str) -> bool:
    """The narrow form, for sentences deep in an answer: the speaker denies this request, or help with it."""
    found = _REQUEST.search(sentence)
    return found is not None and not _is_innocent(sentence, found)


def without_decline(sentence: str) -> str:
    """What else the sentence says."""
    return _DECLINE.sub("", sentence)


def _is_innocent(sentence: str, found: re.Match[str]) -> bool:
    starts = (word.start() for word in re.finditer(r"\w+", found[0]))
    return any(_INNOCENT.match(sentence, found.start() + start) for start in starts)


def _is_limit(sentence: str, found: re.Match[str], following: str) -> bool:
    if not _LIMIT.match(sentence, found.end()):
        return False
    if re.search(_SORRY, sentence):
        return _WITHOUT.search(sentence) is not None
    return _HEDGE.search(f"{sentence[found.end() :]} {following}") is not None
