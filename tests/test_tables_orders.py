"""A table as shops have them: the defaults do as well as boosted trees on features made by hand."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from backprop.tables import TableModel
from orders import orders

pytest.importorskip("duckdb")


def by_hand(columns):
    """What someone who knows the table would give to boosted trees."""
    when = np.array(columns["ordered_at"], "datetime64[m]")
    days = when.astype("datetime64[D]")
    number = [[float(cell.replace(",", "").rstrip("%")) if cell not in ("", "NA") else np.nan for cell in columns[name]]
              for name in ("amount", "discount", "customer_age")]  # fmt: skip
    words = [np.unique(columns[name], return_inverse=True)[1] for name in ("shop", "channel", "express", "gift")]
    dates = [days.astype("datetime64[M]").astype(int) % 12, (days.astype(int) + 3) % 7,
             (when - days).astype(int) // 60, days.astype(int)]  # fmt: skip
    return np.stack([*words, *dates, *number], axis=1).astype(float)


def test_as_good_as_boosted_trees():
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.preprocessing import TargetEncoder

    columns = orders()
    model = TableModel().fit(columns, target="returned")
    assert model.preprocessing.left_out == {"order_id": "identifier: text that differs in every row"}
    meanings = {column.name: column.meaning for column in model.preprocessing.columns}
    assert list(meanings.values()) == ["date", *["category"] * 2, *["boolean"] * 2, *["numeric"] * 3]
    split, returned = model.plan.split, np.array(columns["returned"]) == "yes"
    X, train, held_out = by_hand(columns), split.train, split.held_out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shops = TargetEncoder()
        shop = X[:, :1].copy()
        X[train, :1] = shops.fit_transform(shop[train], returned[train])
        X[held_out, :1] = shops.transform(shop[held_out])
        trees = HistGradientBoostingClassifier(random_state=0).fit(X[train], returned[train])
    theirs = roc_auc_score(returned[held_out], trees.predict_proba(X[held_out])[:, 1])
    print(f"AUC {model.scores['returned']['roc_auc']:.4f}, boosted trees {theirs:.4f}")
    assert model.scores["returned"]["roc_auc"] > theirs - 0.01
