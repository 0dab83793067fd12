"""Tabular classification: tell malignant from benign tumours by 30 measurements of cell nuclei.

Splits, standardises, trains with mini-batches, and scores on rows that training has not seen.
Needs scikit-learn for the data: pip install 'bpcore[sklearn]'.
"""

import backprop as bp
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split

data = load_breast_cancer()
X_train, X_test, y_train, y_test = train_test_split(
    data.data, data.target, test_size=0.25, stratify=data.target, random_state=0
)
mean, scale = X_train.mean(axis=0), X_train.std(axis=0)
X_train, X_test = (X_train - mean) / scale, (X_test - mean) / scale

net = bp.mlp([30, 16, 2], hidden="relu", output="softmax", l2=0.01, seed=0)
print(net.summary())
history = net.fit(X_train, y_train, optimizer=bp.Adam(learning_rate=0.003), epochs=100, batch_size=32)
print(f"{history.epochs} epochs in {history.elapsed:.2f} s, loss {history.loss[0]:.3f} -> {history.loss[-1]:.3f}")

predicted = net.predict(X_test).argmax(axis=1)
print(f"accuracy on {len(y_test)} held-out rows: {(predicted == y_test).mean():.3f}")
print(f"always the most frequent class: {max((y_test == k).mean() for k in (0, 1)):.3f}")
print("rows: the truth, columns: predicted;", ", ".join(data.target_names))
print(confusion_matrix(y_test, predicted))
