import random

import numpy as np
import pytest

from moos.alignment import (
    PairBounds,
    PairFigures,
    PairFilters,
    align_greedy,
    align_lcs,
    align_pair,
    failed_filters,
    hard_labels,
    resolve_bounds,
)

ALIGNERS = ["lcs", "greedy"]


def kept_words(original, compressed, aligner="lcs"):
    alignment = align_pair(original, compressed, aligner=aligner)
    spans = zip(alignment.starts, alignment.ends, alignment.keep, strict=True)
    return [original[start:end] for start, end, keep in spans if keep]


def textbook_subsequence(original, compressed):
    """The kept places that are longest, then earliest, from the table of all common lengths."""
    best = [[()] * (len(compressed) + 1) for _ in range(len(original) + 1)]
    for row in reversed(range(len(original))):
        for column in reversed(range(len(compressed))):
            options = [best[row + 1][column], best[row][column + 1]]
            if original[row] == compressed[column]:
                options.append((row, *best[row + 1][column + 1]))
            best[row][column] = min(options, key=lambda places: (-len(places), places))
    return list(best[0][0])


def stepwise_search(original, compressed, window):
    """LLMLingua-2's search, one distance at a time."""
    taken, last = set(), 0
    for word in compressed:
        steps = ((place, last) for step in range(window) for place in (last + step, last - step))
        for place, origin in steps:
            if 0 <= place < len(original) and place not in taken and original[place] == word:
                taken.add(place)
                last = min(place, origin + window // 2)
                break
    return sorted(taken)


def random_words(generator, max_words):
    return [generator.choice("abcd") for _ in range(generator.randint(0, max_words))]


def figures_of(*, variation_rate=0.0, alignment_gap=0.0, keep_rate=0.5, num_words=10):
    return PairFigures(
        num_words=num_words,
        num_compressed_words=5,
        keep_rate=keep_rate,
        variation_rate=variation_rate,
        matching_rate=keep_rate,
        hitting_rate=keep_rate + alignment_gap,
        alignment_gap=alignment_gap,
    )


def test_a_common_subsequence_is_the_longest_and_then_the_earliest():
    generator = random.Random(0)
    for _ in range(500):
        original, compressed = random_words(generator, 12), random_words(generator, 12)
        kept = np.flatnonzero(align_lcs(original, compressed)).tolist()
        assert kept == textbook_subsequence(original, compressed), (original, compressed)


def test_the_greedy_search_takes_the_nearest_free_word_as_the_stepwise_one_does():
    generator = random.Random(0)
    for _ in range(500):
        original, compressed = random_words(generator, 30), random_words(generator, 15)
        window = generator.randint(1, 9)
        kept = np.flatnonzero(align_greedy(original, compressed, window=window)).tolist()
        assert kept == stepwise_search(original, compressed, window), (original, compressed)


@pytest.mark.parametrize(
    ("original", "compressed", "kept"),
    [
        ("a b a", "a", [0]),
        ("a b a b", "a b", [0, 1]),
        ("a b a b", "b a", [1, 2]),
        # Two longest ones, `a` and `b`: the earlier word of the original, not of the compression.
        ("a b", "b a", [0]),
        # An early word is not taken where it costs a later one.
        ("c a b c", "a b c", [1, 2, 3]),
    ],
)
def test_of_several_longest_subsequences_the_earlier_words_are_kept(original, compressed, kept):
    assert np.flatnonzero(align_lcs(original.split(), compressed.split())).tolist() == kept


@pytest.mark.parametrize("aligner", ALIGNERS)
@pytest.mark.parametrize(
    ("original", "compressed", "kept"),
    [
        ("The cat, it sat.", "cat sat", ["cat,", "sat."]),
        ("the Cat", '("CAT")', ["Cat"]),
        ("Straße ahead", "STRASSE", ["Straße"]),
        ("«Déjà vu»", "déjà Vu!", ["«Déjà", "vu»"]),
        ("東京 は", "は。", ["は"]),
        ("a — b", "a — b", ["a", "—", "b"]),
        ("a — b", "a ... b", ["a", "b"]),
        ("it's on-line", "its online", []),
        ("costs $5 more", "costs 5", ["costs"]),
        ("costs $5, more", "$5", ["$5,"]),
        ("he runs", "he run", ["he"]),
        ("cafe\u0301", "caf\u00e9", []),
    ],
)
def test_words_match_by_form_without_case_and_outer_punctuation(
    original, compressed, kept, aligner
):
    assert kept_words(original, compressed, aligner) == kept


def test_offsets_are_code_points_of_white_space_separated_words():
    text = " 😀 é…\u00a0(a)\n\tlast"
    alignment = align_pair(text, "a 😀")
    spans = zip(alignment.starts, alignment.ends, strict=True)
    assert [text[start:end] for start, end in spans] == text.split()
    assert alignment.starts.dtype == alignment.ends.dtype == np.int32
    assert alignment.keep.dtype == np.bool_


def test_a_compressed_word_keeps_one_word_of_the_original_at_most():
    assert align_lcs(["a"] * 3, ["a"]).sum() == align_greedy(["a"] * 3, ["a"]).sum() == 1
    assert align_lcs(["a"], ["a"] * 3).sum() == align_greedy(["a"], ["a"] * 3).sum() == 1


def test_reordered_words_are_found_by_the_greedy_search_and_not_by_the_subsequence():
    original, compressed = "one two three four", "three four one"
    assert kept_words(original, compressed, "lcs") == ["three", "four"]
    assert kept_words(original, compressed, "greedy") == ["one", "three", "four"]


def test_a_nearer_word_behind_draws_the_greedy_search_back_and_not_the_subsequence():
    original, compressed = list("bxcxxbd"), list("cbd")
    assert np.flatnonzero(align_lcs(original, compressed)).tolist() == [2, 5, 6]
    assert np.flatnonzero(align_greedy(original, compressed)).tolist() == [0, 2, 6]


@pytest.mark.parametrize(
    ("distance", "window", "is_found"), [(4, 5, True), (5, 5, False), (149, 150, True)]
)
def test_the_greedy_search_looks_less_than_a_window_ahead_and_back(distance, window, is_found):
    between = ["x"] * (distance - 1)
    ahead = align_greedy(["a", *between, "b"], ["a", "b"], window=window)
    assert ahead[-1] == is_found
    back = align_greedy(["b", *between, "a"], ["a", "b"], window=distance + 1)
    assert back[0]


def test_the_greedy_search_goes_on_at_most_half_a_window_past_the_last_match():
    # `b` is 8 words ahead, so the search for `c` starts at word 5 and not at word 8.
    original = ["a", "x", "c", "x", "x", "x", "x", "x", "b", "x", "c"]
    keep = align_greedy(original, ["a", "b", "c"], window=10)
    assert np.flatnonzero(keep).tolist() == [0, 2, 8]


@pytest.mark.parametrize(("aligner", "lost"), [("lcs", 0), ("greedy", 500)])
def test_a_long_document_is_aligned_to_its_end(aligner, lost):
    generator = random.Random(0)
    original = [f"w{generator.randrange(800)}" for _ in range(5000)]
    compressed = [original[place] for place in sorted(generator.sample(range(5000), 2500))]
    keep = align_pair(" ".join(original), " ".join(compressed), aligner=aligner).keep
    assert keep.sum() >= len(compressed) - lost
    assert keep[-50:].any()
    if not lost:
        assert np.array(original)[keep].tolist() == compressed


def test_figures_are_those_of_the_paper():
    # `purred` is made up; the second `the` is there, but only after `sat`.
    alignment = align_pair("The cat sat. Then the dog barked", "the cat purred the sat")
    assert alignment.keep.tolist() == [True, True, True, False, False, False, False]
    assert alignment.figures == PairFigures(
        num_words=7,
        num_compressed_words=5,
        keep_rate=3 / 7,
        variation_rate=1 / 5,
        matching_rate=3 / 7,
        hitting_rate=4 / 7,
        alignment_gap=1 / 7,
    )


def test_a_word_repeated_by_the_teacher_hits_each_time_and_matches_once():
    figures = align_pair("a b", "a a a").figures
    assert (figures.variation_rate, figures.hitting_rate) == (0.0, 1.5)
    assert (figures.matching_rate, figures.alignment_gap) == (0.5, 1.0)


@pytest.mark.parametrize("aligner", ALIGNERS)
@pytest.mark.parametrize(
    ("original", "compressed", "words", "variation_rate"),
    [("", "", 0, 0.0), (" \n", "a b", 0, 1.0), ("a b", " ", 2, 0.0), ("a b", "c", 2, 1.0)],
)
def test_texts_with_nothing_in_common_keep_nothing(
    original, compressed, words, variation_rate, aligner
):
    alignment = align_pair(original, compressed, aligner=aligner)
    assert len(alignment.starts) == len(alignment.ends) == len(alignment.keep) == words
    assert not alignment.keep.any()
    figures = alignment.figures
    assert figures.variation_rate == variation_rate
    assert figures.keep_rate == figures.matching_rate == 0.0
    assert figures.hitting_rate == figures.alignment_gap == 0.0


def test_hard_labels_are_one_where_a_word_was_kept():
    labels = hard_labels(align_pair("a b c", "c a"))
    assert labels.dtype == np.float32
    assert labels.tolist() == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("figures", "failed"),
    [
        (figures_of(), ()),
        (figures_of(variation_rate=0.2, alignment_gap=0.1, keep_rate=0.1), ()),
        (figures_of(keep_rate=0.9), ()),
        (figures_of(variation_rate=0.21), ("variation_rate",)),
        (figures_of(alignment_gap=0.11), ("alignment_gap",)),
        (figures_of(keep_rate=0.09), ("keep_rate",)),
        (figures_of(keep_rate=0.91), ("keep_rate",)),
        (figures_of(keep_rate=0.0, num_words=0), ()),
        (
            figures_of(variation_rate=1.0, alignment_gap=1.0, keep_rate=0.0),
            ("variation_rate", "alignment_gap", "keep_rate"),
        ),
    ],
)
def test_a_pair_fails_the_filters_whose_bounds_it_is_beyond(figures, failed):
    bounds = resolve_bounds(
        PairFilters(
            max_variation_rate=0.2, max_alignment_gap=0.1, min_keep_rate=0.1, max_keep_rate=0.9
        ),
        [],
    )
    assert failed_filters(figures, bounds) == failed


def test_without_filters_every_pair_passes():
    bounds = resolve_bounds(PairFilters(), [figures_of()])
    assert bounds == PairBounds(None, None, None, None)
    worst = figures_of(variation_rate=1.0, alignment_gap=9.0, keep_rate=0.0)
    assert failed_filters(worst, bounds) == ()


@pytest.mark.parametrize(("min_keep_rate", "failed"), [(None, ()), (0.05, ("keep_rate",))])
def test_an_empty_compression_fails_only_by_a_smallest_keep_rate(min_keep_rate, failed):
    figures = align_pair("a b", "").figures
    bounds = resolve_bounds(PairFilters(max_keep_rate=0.9, min_keep_rate=min_keep_rate), [figures])
    assert failed_filters(figures, bounds) == failed


@pytest.mark.parametrize(
    ("bound", "percentile", "resolved"),
    [(None, None, None), (0.5, None, 0.5), (None, 95, 0.19), (0.5, 95, 0.19), (0.05, 95, 0.05)],
)
def test_the_tighter_of_bound_and_percentile_holds(bound, percentile, resolved):
    rates = [number / 100 for number in range(21)]
    random.Random(0).shuffle(rates)
    bounds = resolve_bounds(
        PairFilters(max_variation_rate=bound, variation_percentile=percentile),
        [figures_of(variation_rate=rate, alignment_gap=1.0) for rate in rates],
    )
    assert bounds.max_variation_rate == (None if resolved is None else pytest.approx(resolved))
    assert bounds.max_alignment_gap is None


def test_percentiles_drop_the_top_of_the_corpus():
    corpus = [figures_of(variation_rate=n / 100, alignment_gap=-n / 100 + 1) for n in range(100)]
    bounds = resolve_bounds(PairFilters(variation_percentile=95, gap_percentile=90), corpus)
    failed = [failed_filters(figures, bounds) for figures in corpus]
    assert [n for n, names in enumerate(failed) if names == ("variation_rate",)] == [
        *range(95, 100)
    ]
    assert [n for n, names in enumerate(failed) if names == ("alignment_gap",)] == [*range(10)]


def test_pairs_tied_at_a_percentile_pass():
    corpus = [figures_of(variation_rate=0.1)] * 7 + [figures_of()] * 3
    bounds = resolve_bounds(PairFilters(variation_percentile=95), corpus)
    assert not any(failed_filters(figures, bounds) for figures in corpus)


def test_percentiles_of_an_empty_corpus_bound_nothing():
    filters = PairFilters(max_variation_rate=0.3, variation_percentile=95, gap_percentile=90)
    assert resolve_bounds(filters, []) == PairBounds(0.3, None, None, None)
