"""A table of orders as shops have them, drawn at random: python tests/orders.py orders.csv

Dates, booleans, missing values, an identifier, 300 shops of very different size, and some 5 % of orders that are sent
back. What makes an order come back: its shop, the weekend and the night, its amount (most in the middle), the season,
express delivery by phone, and whether the age of the customer is known.
"""

from __future__ import annotations

import csv
import sys
from typing import Any

import numpy as np

N_ROWS, N_SHOPS, SHARE_RETURNED = 45_000, 300, 0.05


def orders(n: int = N_ROWS, seed: int = 0) -> dict[str, list[Any]]:
    """The columns of the table, as a file has them."""
    rng = np.random.default_rng(seed)
    popularity = rng.dirichlet(np.full(N_SHOPS, 0.8))
    shop = rng.choice(N_SHOPS, n, p=popularity)
    minutes = np.sort(rng.integers(0, 2 * 365 * 24 * 60, n))
    when = np.datetime64("2023-01-01T00:00", "m") + minutes
    hour, weekday = minutes // 60 % 24, (minutes // (24 * 60) + 6) % 7
    month = when.astype("datetime64[M]").astype(int) % 12
    amount = np.round(np.exp(rng.normal(3.5, 0.9, n)), 2)
    express = rng.random(n) < 0.3
    gift = rng.random(n) < 0.1
    channel = rng.choice(3, n, p=[0.6, 0.3, 0.1])
    age = rng.normal(42, 14, n).clip(18, 90).round()
    discount = rng.choice([0, 5, 10, 15, 20, 30], n, p=[0.5, 0.15, 0.15, 0.1, 0.05, 0.05])
    no_age, no_amount = rng.random(n) < 0.12, rng.random(n) < 0.03
    logit = (
        rng.normal(0, 0.8, N_SHOPS)[shop]
        + 0.8 * (weekday >= 5)
        + 1.0 * ((hour >= 22) | (hour < 5))
        + 0.9 * np.cos(2 * np.pi * (month - 11) / 12)
        + 1.2 * np.exp(-((np.log(amount) - 4.2) ** 2) / 0.3)
        + 1.1 * (express & (channel == 2))
        - 0.7 * gift
        + 0.03 * discount
        - 0.02 * (age - 42) * ~no_age
        + 0.6 * no_age
    )
    low, high = -20.0, 20.0
    for _ in range(60):  # the shift that gives the share
        shift = (low + high) / 2
        low, high = (shift, high) if np.mean(1 / (1 + np.exp(-logit - shift))) < SHARE_RETURNED else (low, shift)
    returned = rng.random(n) < 1 / (1 + np.exp(-logit - shift))
    return {
        "order_id": [f"ORD-{number:06d}" for number in rng.permutation(n)],
        "ordered_at": [str(each).replace("T", " ") for each in when],
        "shop": [f"shop {k:03d}" for k in shop],
        "channel": [("web", "app", "phone")[k] for k in channel],
        "express": ["TRUE" if each else "FALSE" for each in express],
        "gift": ["yes" if each else "no" for each in gift],
        "amount": ["" if gone else f"{each:,.2f}" for each, gone in zip(amount, no_amount, strict=True)],
        "discount": [f"{each}%" for each in discount],
        "customer_age": ["NA" if gone else f"{each:.0f}" for each, gone in zip(age, no_age, strict=True)],
        "returned": ["yes" if each else "no" for each in returned],
    }


def write(path: str, n: int = N_ROWS, seed: int = 0) -> None:
    """Write the table as CSV."""
    columns = orders(n, seed)
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


if __name__ == "__main__":
    write(sys.argv[1])
