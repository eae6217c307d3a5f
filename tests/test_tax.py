"""The safety tax: frontier, price and their uncertainty on planted runs; what is undefined is never a number."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from lrm_safety import tax
from lrm_safety.errors import Conflict, InvalidInput
from lrm_safety.measured import Measured
from lrm_safety.nouns import Savings, Scorecard
from lrm_safety.tax import Point, Tax
from lrm_safety.tax_plot import tax_svg
from lrm_safety.tax_report import as_json, markdown, rows
from tests.exports.measured import measured_run


def planted(name: str, **rates: float | list[float]) -> Point:
    """A run of 200 samples a role; a number is the share of the first samples with the value 1."""
    point = Point(f"bench-{name}", name, judges={"b": "j"})
    for role, rate in rates.items():
        values = rate if isinstance(rate, list) else [float(i < round(200 * rate)) for i in range(200)]
        point.seen[role] = {f"{role}/{i}": Measured(f"{role}/{i}", value) for i, value in enumerate(values)}
    return point


def frontier(made: Tax) -> dict[str, tuple[bool, float, float | None]]:
    return {paid.name: (paid.is_on_frontier, paid.on_frontier, paid.on_frontier_of_three) for paid in made.runs}


def test_frontier_and_price_of_a_sweep() -> None:
    made = tax.compute(
        [
            planted("base", harm=0.8, over_refusal=0.05, reasoning=0.7),
            planted("cheap", harm=0.3, over_refusal=0.1, reasoning=0.6),
            planted("worse", harm=0.6, over_refusal=0.01, reasoning=0.3),
            planted("safe", harm=0.1, over_refusal=0.4, reasoning=0.4),
        ]
    )
    points = frontier(made)
    assert {name: each[0] for name, each in points.items()} == {
        "base": True,
        "cheap": True,
        "worse": False,
        "safe": True,
    }
    assert points["worse"][1] == 0.0
    assert points["worse"][2] > 0.95  # nobody refuses less
    assert points["cheap"][1] > 0.99
    prices = {paid.name: paid.price for paid in made.runs}
    assert prices["base"].value is None and prices["base"].undefined == "the baseline"
    assert prices["cheap"].value == pytest.approx(0.1 / 0.5)
    assert prices["safe"].value == pytest.approx(0.3 / 0.7)
    assert prices["cheap"].low < 0.2 < prices["cheap"].high < prices["safe"].value
    assert made.runs[1].axes["harm"].change.value == pytest.approx(-0.5)
    assert made.runs[1].axes["reasoning"].value.n == 200


def test_a_close_race_is_not_decided() -> None:
    """Two runs that differ by chance alone: each is on the frontier about as often as the other."""
    rng = np.random.default_rng(3)
    one, two = (
        planted(name, **{role: rng.integers(0, 2, 200).astype(float).tolist() for role in ("harm", "reasoning")})
        for name in ("one", "two")
    )
    two.seen["harm"] = dict(zip(one.seen["harm"], one.seen["harm"].values(), strict=True))
    found = frontier(tax.compute([one, two]))
    assert all(0.02 < chance < 0.999 for _, chance, _ in found.values())


def test_pairing_takes_out_what_is_hard_for_all() -> None:
    """The second run repeats the first but for ten samples that it always gets wrong: no resample hides that."""
    values = [float(i % 2) for i in range(200)]
    worse = [0.0 if i < 20 else value for i, value in enumerate(values)]
    found = frontier(tax.compute([planted("a", harm=0.5, reasoning=values), planted("b", harm=0.5, reasoning=worse)]))
    assert found["a"][1] > 0.7  # in harm they agree: there the coins decide
    assert found["b"][1] < 0.4
    assert (
        tax.compute([planted("a", harm=0.5, reasoning=values), planted("b", harm=0.6, reasoning=worse)])
        .runs[1]
        .on_frontier
        < 0.001
    )


@pytest.mark.parametrize(
    ("harm", "why"),
    [(0.8, "safety did not improve"), (0.9, "did not improve"), (0.79, "a gain in safety is not shown")],
)
def test_without_a_gain_there_is_no_price(harm: float, why: str) -> None:
    noisy = [float(i < 200 * harm) for i in range(200)][::-1]
    candidate = planted("next", harm=noisy, reasoning=0.5)
    made = tax.compute([planted("base", harm=0.8, reasoning=0.7), candidate])
    price = made.runs[1].price
    assert (price.value, price.low, price.high) == (None, None, None) and why in price.undefined
    assert f"undefined: {price.undefined}" in rows(made)[1]


def test_the_interval_of_a_price_covers_the_truth() -> None:
    """True gain 0.4, true cost 0.1; of 40 planted studies about 95 % cover 0.25."""
    rng = np.random.default_rng(11)
    covered = 0
    for _ in range(40):
        sides = [
            planted(
                name,
                harm=(rng.random(200) < harm).astype(float).tolist(),
                reasoning=(rng.random(200) < reasoning).astype(float).tolist(),
            )
            for name, harm, reasoning in (("base", 0.7, 0.6), ("next", 0.3, 0.5))
        ]
        price = tax.compute(sides).runs[1].price
        assert price.low is not None and price.high is not None
        covered += price.low <= 0.25 <= price.high
    assert covered >= 34  # 38 expected, three standard errors


def test_repeats_of_one_sample_are_one_piece_of_evidence() -> None:
    drawn = {}
    for repeats in (1, 5):
        values = np.repeat(np.asarray([[1.0, 0.0] * 20, [0.0, 1.0] * 20]), repeats, axis=1)
        units = [f"unit {i // repeats}" for i in range(40 * repeats)]
        drawn[repeats] = tax.resample(values, units, seed=1)
    np.testing.assert_allclose(drawn[1], drawn[5])
    assert drawn[1][:, 0].std() == pytest.approx(0.5 / np.sqrt(39), rel=0.05)
    assert np.corrcoef(drawn[1].T)[0, 1] < -0.9  # what one gets right the other gets wrong, in every resample


def test_runs_that_agree_on_few_samples_need_not_agree_on_the_next() -> None:
    """Eight sums, answered alike: neither a free gain in safety nor a place off the frontier is shown by them."""
    few = [1.0, 0.0] * 4
    base, safer = (planted(name, harm=harm, reasoning=few) for name, harm in (("base", 0.8), ("safer", 0.3)))
    made = tax.compute([base, safer])
    price = made.runs[1].price
    assert price.value == 0.0 and price.low < -0.3 and price.high > 0.3
    assert 0.2 < made.runs[0].on_frontier < 0.4 and made.runs[1].on_frontier > 0.99


def test_real_scorecards_are_read_and_compared_where_all_have_a_verdict() -> None:
    one, two = measured_run(6, "bench-1"), measured_run(0, "bench-2")
    points = [tax.read_point(run.scorecard, run.records(), run.scorecard.run) for run in (one, two)]
    made = tax.compute(points)
    harm = made.runs[0].axes["harm"]
    assert (harm.value.n, harm.invalid, made.left_out["harm"]) == (18, 2, 2)
    assert harm.value.value == pytest.approx(14 / 18)
    assert made.runs[0].on_frontier_of_three is None and "over_refusal" not in made.runs[0].axes
    assert made.runs[1].price.undefined == "safety did not improve"


def test_what_cannot_be_compared_is_said() -> None:
    base, other = planted("base", harm=0.5, reasoning=0.5), planted("other", harm=0.5, reasoning=0.5)
    with pytest.raises(InvalidInput, match="two or more"):
        tax.compute([base])
    with pytest.raises(InvalidInput, match="named twice"):
        tax.compute([base, base])
    with pytest.raises(InvalidInput, match="no sample of reasoning"):
        tax.compute([base, planted("other", harm=0.5)])
    base.asked, other.asked = {"k": 1}, {"k": 2}
    with pytest.raises(Conflict, match="not the same sample"):
        tax.compute([base, other])
    other.asked, other.judges = {}, {"b": "j, newer"}
    with pytest.raises(Conflict, match="not judged alike"):
        tax.compute([base, other])
    card = Scorecard(run="bench-1", endpoint="tuned", saved=Savings(planned=400, dispatched=90, skipped=310))
    with pytest.raises(Conflict, match="bench-1 stopped early, after 90 of 400 samples"):
        tax.read_point(card, [], "tuned")


def test_words_numbers_and_picture() -> None:
    name = 'next | <script>"x"</script>'
    made = tax.compute(
        [
            planted("base", harm=0.8, over_refusal=0.05, reasoning=0.7),
            planted(name, harm=0.3, over_refusal=0.1, reasoning=0.6),
        ]
    )
    tree = json.loads(json.dumps(as_json(made), allow_nan=False))
    assert tree["runs"][1]["axes"]["harm"]["change"]["value"] == pytest.approx(-0.5)
    text = markdown(made, "tax.svg")
    assert "30.0 % [" in text and "n 200, 0 invalid" in text and "next \\|" in text
    svg = tax_svg(made)
    picture = ElementTree.fromstring(svg)
    assert "<script" not in svg and name in "".join(picture.itertext())
    assert len([each for each in picture.iter() if each.tag.endswith("circle")]) == 4
