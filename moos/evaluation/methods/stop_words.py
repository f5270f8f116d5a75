"""English words that say little by themselves: articles, pronouns, prepositions, auxiliaries.

Negations are none of them, though common lists hold them, too: without `not` a sentence says the
opposite, and the baseline would be weaker than it need be.
"""

_WORDS = """
a an the this that these those such
i me my mine myself we us our ours ourselves you your yours yourself yourselves
he him his himself she her hers herself it its itself
they them their theirs themselves who whom whose which what
i'm i've i'd i'll we're we've we'd we'll you're you've you'd you'll he's he'd he'll
she's she'd she'll it's it'd it'll they're they've they'd they'll that's that'll there's
here's what's who's where's let's 's 're 've 'd 'll 'm s re ve d ll m
am is are was were be been being do does did doing done have has had having
will would shall should can could may might must ought
and or but if because as while until than so though although whether
of at by for with about against between into through during before after above below
to from up down in out on off over under upon within across along around among toward towards
again further then once here there when where why how
all any both each few more most other others some own same
only too very just also even still yet quite rather really
um uh er ah oh hmm mm yeah okay ok well like
"""

STOP_WORDS = frozenset(_WORDS.split())
"""In folded case, with plain apostrophes."""
