"""The arithmetic of the corpus: one story a family, each wholly in train or in test. Small numbers, one or two steps.

A text may use {a} {b} {c}, {gold}, {ab} = a·b, {step} (the middle result), {name} and {thing}.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Story:
    name: str
    split: str
    prompts: tuple[str, ...]
    thinking: str
    answer: str  # the sentence before "The answer is ..."
    gold: Callable[[int, int, int], int]
    a: range
    b: range
    c: range = range(1, 2)
    step: Callable[[int, int, int], int] = lambda a, b, c: a + b
    things: tuple[str, ...] = ("",)


NAMES = {
    "train": ("Anna", "Ben", "Clara", "David", "Emma", "Felix", "Hugo", "Ida"),
    "test": ("Karim", "Lena", "Mateo", "Nora", "Omar", "Priya", "Sam", "Yuki"),
}

STORIES = (
    Story(
        name="sum",
        split="train",
        a=range(2, 13),
        b=range(2, 10),
        gold=lambda a, b, c: a + b,
        prompts=("What is {a} + {b}?", "Calculate {a} + {b}."),
        thinking="I add the two numbers: {a} + {b} = {gold}.",
        answer="{a} + {b} = {gold}.",
    ),
    Story(
        name="difference",
        split="train",
        a=range(10, 20),
        b=range(2, 10),
        gold=lambda a, b, c: a - b,
        prompts=("What is {a} - {b}?", "Calculate {a} - {b}."),
        thinking="I subtract the second number from the first: {a} - {b} = {gold}.",
        answer="{a} - {b} = {gold}.",
    ),
    Story(
        name="product",
        split="train",
        a=range(2, 8),
        b=range(2, 8),
        gold=lambda a, b, c: a * b,
        prompts=("What is {a} * {b}?", "Calculate {a} times {b}."),
        thinking="I multiply the two numbers: {a} * {b} = {gold}.",
        answer="{a} * {b} = {gold}.",
    ),
    Story(
        name="fruit",
        split="train",
        a=range(2, 10),
        b=range(2, 9),
        gold=lambda a, b, c: a + b,
        things=("apples", "pears", "plums", "oranges"),
        prompts=(
            "{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have now?",
            "{name} picks {a} {thing} and then {b} others. How many {thing} is that?",
        ),
        thinking="{name} starts with {a} {thing} and gets {b} more, so I add: {a} + {b} = {gold}.",
        answer="{name} has {gold} {thing}.",
    ),
    Story(
        name="pocket_money",
        split="train",
        a=range(10, 20),
        b=range(2, 9),
        gold=lambda a, b, c: a - b,
        things=("book", "cap", "ball", "puzzle"),
        prompts=(
            "{name} has {a} dollars and spends {b} dollars on a {thing}. How much money is left?",
            "{name} pays {b} dollars for a {thing} out of {a} dollars. How much remains?",
        ),
        thinking="{name} has {a} dollars and pays {b}, so I subtract: {a} - {b} = {gold}.",
        answer="{name} has {gold} dollars left.",
    ),
    Story(
        name="boxes",
        split="train",
        a=range(2, 7),
        b=range(2, 7),
        gold=lambda a, b, c: a * b,
        things=("pencils", "eggs", "candles", "marbles"),
        prompts=(
            "There are {a} boxes with {b} {thing} each. How many {thing} are there in total?",
            "{name} fills {a} boxes with {b} {thing} in each box. How many {thing} is that altogether?",
        ),
        thinking="There are {a} boxes and each has {b} {thing}, so I multiply: {a} * {b} = {gold}.",
        answer="There are {gold} {thing}.",
    ),
    Story(
        name="sharing",
        split="train",
        a=range(2, 6),
        b=range(2, 7),
        gold=lambda a, b, c: b,
        things=("sweets", "cookies", "stickers", "cards"),
        prompts=(
            "{name} shares {ab} {thing} equally among {a} friends. How many {thing} does each friend get?",
            "{a} friends split {ab} {thing} evenly. How many {thing} does each of them receive?",
        ),
        thinking="{ab} {thing} go to {a} friends in equal parts, so I divide: {ab} / {a} = {gold}.",
        answer="Each friend gets {gold} {thing}.",
    ),
    Story(
        name="ages",
        split="train",
        a=range(5, 20),
        b=range(2, 9),
        gold=lambda a, b, c: a + b,
        things=("brother", "sister", "cousin"),
        prompts=(
            "{name} is {a} years old. {name}'s {thing} is {b} years older. How old is the {thing}?",
            "{name} is {a}. How old will {name} be in {b} years?",
        ),
        thinking="The age is {b} years more than {a}, so I add: {a} + {b} = {gold}.",
        answer="The age is {gold} years.",
    ),
    Story(
        name="bus",
        split="train",
        a=range(8, 15),
        b=range(2, 7),
        c=range(1, 7),
        gold=lambda a, b, c: a - b + c,
        step=lambda a, b, c: a - b,
        prompts=("A bus has {a} passengers. {b} get off and {c} get on. How many passengers are on the bus now?",),
        thinking="First {b} get off: {a} - {b} = {step}. Then {c} get on: {step} + {c} = {gold}.",
        answer="There are {gold} passengers on the bus.",
    ),
    Story(
        name="walking",
        split="train",
        a=range(2, 6),
        b=range(2, 6),
        gold=lambda a, b, c: a * b,
        prompts=(
            "{name} walks {a} kilometres every hour. How far does {name} get in {b} hours?",
            "A hiker covers {a} kilometres each hour. How many kilometres is that after {b} hours?",
        ),
        thinking="Each hour is {a} kilometres and there are {b} hours, so I multiply: {a} * {b} = {gold}.",
        answer="The way is {gold} kilometres long.",
    ),
    Story(
        name="shopping",
        split="train",
        a=range(2, 6),
        b=range(2, 6),
        c=range(1, 8),
        gold=lambda a, b, c: a * b + c,
        step=lambda a, b, c: a * b,
        things=("notebooks", "brushes", "mugs", "plants"),
        prompts=("{name} buys {a} {thing} for {b} dollars each and a bag for {c} dollars. What is the total price?",),
        thinking="The {thing} cost {a} * {b} = {step} dollars. With the bag it is {step} + {c} = {gold}.",
        answer="The total price is {gold} dollars.",
    ),
    Story(
        name="double",
        split="train",
        a=range(2, 16),
        b=range(2, 3),
        gold=lambda a, b, c: 2 * a,
        prompts=("What is the double of {a}?", "How much is twice {a}?"),
        thinking="The double means two times the number: 2 * {a} = {gold}.",
        answer="The double of {a} is {gold}.",
    ),
    Story(
        name="plus",
        split="test",
        a=range(2, 10),
        b=range(2, 10),
        gold=lambda a, b, c: a + b,
        prompts=("What does {a} plus {b} make?", "How much do {a} plus {b} make?"),
        thinking="I add the numbers: {a} + {b} = {gold}.",
        answer="{a} plus {b} is {gold}.",
    ),
    Story(
        name="minus",
        split="test",
        a=range(9, 16),
        b=range(2, 8),
        gold=lambda a, b, c: a - b,
        prompts=("What does {a} minus {b} make?", "How much does {a} minus {b} make?"),
        thinking="I take {b} away from {a}: {a} - {b} = {gold}.",
        answer="{a} minus {b} is {gold}.",
    ),
    Story(
        name="multiplied",
        split="test",
        a=range(2, 7),
        b=range(2, 7),
        gold=lambda a, b, c: a * b,
        prompts=("What does {a} times {b} make?", "How much do {a} times {b} make?"),
        thinking="I multiply: {a} * {b} = {gold}.",
        answer="{a} times {b} is {gold}.",
    ),
    Story(
        name="pond",
        split="test",
        a=range(2, 10),
        b=range(2, 8),
        gold=lambda a, b, c: a + b,
        things=("ducks", "frogs", "swans", "turtles"),
        prompts=(
            "{a} {thing} swim in a pond. {b} more {thing} come. How many {thing} are in the pond?",
            "A pond has {a} {thing}. Then {b} more {thing} arrive. How many {thing} are in the pond?",
        ),
        thinking="At first {a} {thing}, then {b} come, so I add: {a} + {b} = {gold}.",
        answer="In the pond are {gold} {thing}.",
    ),
    Story(
        name="bakery",
        split="test",
        a=range(8, 16),
        b=range(2, 8),
        gold=lambda a, b, c: a - b,
        things=("rolls", "muffins", "pies", "bagels"),
        prompts=(
            "A baker has {a} {thing}. He sells {b} {thing}. How many {thing} are left?",
            "A baker made {a} {thing} and sold {b} {thing}. How many {thing} are left?",
        ),
        thinking="From {a} {thing} {b} are gone, so I subtract: {a} - {b} = {gold}.",
        answer="{gold} {thing} are left.",
    ),
    Story(
        name="rows_of_seats",
        split="test",
        a=range(2, 7),
        b=range(2, 7),
        gold=lambda a, b, c: a * b,
        things=("seats", "chairs", "desks"),
        prompts=(
            "One row has {b} {thing}. How many {thing} are in {a} rows?",
            "A hall has {a} rows of {b} {thing}. How many {thing} does it have?",
        ),
        thinking="{a} rows of {b} {thing} mean I multiply: {a} * {b} = {gold}.",
        answer="There are {gold} {thing}.",
    ),
    Story(
        name="teams",
        split="test",
        a=range(2, 5),
        b=range(2, 7),
        gold=lambda a, b, c: b,
        things=("pupils", "players", "dancers"),
        prompts=(
            "{ab} {thing} make {a} teams of equal size. How many {thing} are in one team?",
            "{ab} {thing} go into {a} equal teams. How many {thing} are in one team?",
        ),
        thinking="{ab} {thing} in {a} equal teams mean I divide: {ab} / {a} = {gold}.",
        answer="One team has {gold} {thing}.",
    ),
    Story(
        name="library",
        split="test",
        a=range(4, 10),
        b=range(2, 7),
        c=range(1, 4),
        gold=lambda a, b, c: a + b - c,
        things=("books", "comics", "films"),
        prompts=(
            "{name} has {a} {thing}. {name} gets {b} more {thing} and returns {c}. How many {thing} does {name} have?",
        ),
        thinking="First I add: {a} + {b} = {step}. Then {c} go back: {step} - {c} = {gold}.",
        answer="{name} has {gold} {thing}.",
    ),
    Story(
        name="tickets",
        split="test",
        a=range(2, 6),
        b=range(2, 6),
        c=range(1, 4),
        gold=lambda a, b, c: a * b - c,
        step=lambda a, b, c: a * b,
        things=("museum", "boat", "puppet show"),
        prompts=("One {thing} ticket costs {b} euros. A coupon saves {c} euros. How much do {a} tickets cost?",),
        thinking="The tickets cost {a} * {b} = {step} euros. Minus the coupon: {step} - {c} = {gold}.",
        answer="{a} tickets cost {gold} euros.",
    ),
)
