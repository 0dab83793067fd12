"""XOR, the first lesson in backpropagation: a 2-2-1 network of sigmoids learns it in 10,000 epochs.

Prints the predictions before the last update, as the lesson does that computes every step by hand in NumPy:
full-batch gradient descent with learning rate 0.1 on half the summed squared error, from the same initial weights.
"""

import backprop as bp
import numpy as np

X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
y = np.array([[0], [1], [1], [0]])

net = bp.Network(2, [bp.Dense(2, "sigmoid"), bp.Dense(1, "sigmoid")], dtype="float64")
draws = np.random.RandomState(42)  # the draws that follow np.random.seed(42)
net.weights[0] = draws.rand(2, 2)
net.weights[1] = draws.rand(2, 1)
net.biases[0] = draws.rand(2)
net.biases[1] = draws.rand(1)

loss = bp.losses.SquaredError(scale=0.5, reduction="sum")
sgd = bp.SGD(learning_rate=0.1)

net.fit(X, y, loss=loss, optimizer=sgd, epochs=9_999, batch_size=None)
predicted_output = net.predict(X)
net.fit(X, y, loss=loss, optimizer=sgd, epochs=1, batch_size=None)  # the last update

print("Final Predictions:")
print(predicted_output)
