"""A surrogate: a small network learns what a simulation says, and then answers thousands of times as fast.

The simulation follows a ball that is thrown with air resistance until it lands; speed, angle and drag decide how far it
flies. The network learns that distance from 2,000 runs and is scored on 500 others.
"""

import time

import backprop as bp
import numpy as np

GRAVITY, STEP = 9.81, 0.005


def distance(speed, angle, drag):
    """Fly in small steps of time until the ball is down again; drag is the deceleration per squared speed."""
    x, y = 0.0, 0.0
    vx, vy = speed * np.cos(angle), speed * np.sin(angle)
    while True:
        v = np.hypot(vx, vy)
        vx -= STEP * drag * v * vx
        vy -= STEP * (GRAVITY + drag * v * vy)
        x_before, y_before = x, y
        x, y = x + STEP * vx, y + STEP * vy
        if y < 0:
            return x_before + (x - x_before) * y_before / (y_before - y)


low, high = np.array([5.0, 0.2, 0.0]), np.array([30.0, 1.3, 0.05])
rng = np.random.default_rng(0)
inputs = rng.uniform(low, high, (2_500, 3))
start = time.perf_counter()
outputs = np.array([distance(*row) for row in inputs])
simulation = (time.perf_counter() - start) / len(inputs)

X = 2 * (inputs - low) / (high - low) - 1
mean, scale = outputs[:2_000].mean(), outputs[:2_000].std()
y = (outputs - mean) / scale

net = bp.mlp([3, 32, 32, 1], hidden="tanh", seed=0)
for learning_rate in (0.01, 0.003, 0.001):
    net.fit(X[:2_000], y[:2_000], optimizer=bp.Adam(learning_rate=learning_rate), epochs=100, batch_size=64)

net.predict(X[:1])  # what is done once only is not timed
start = time.perf_counter()
predicted = net.predict(X[2_000:]).ravel() * scale + mean
surrogate = (time.perf_counter() - start) / 500
error = predicted - outputs[2_000:]
print(f"trained in {net.history.elapsed:.1f} s")
print(f"R² on 500 new throws: {1 - error.var() / outputs[2_000:].var():.5f}")
print(f"mean absolute error: {np.abs(error).mean():.3f} m of {outputs.min():.1f} to {outputs.max():.1f} m")
print(f"one answer: simulation {1e6 * simulation:,.0f} µs, network {1e6 * surrogate:.2f} µs")
