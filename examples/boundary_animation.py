"""How a decision boundary forms: an animation of training, as a GIF.

    python examples/boundary_animation.py [boundary.gif] [frames]

Needs matplotlib and scikit-learn: pip install 'bpcore[plot,sklearn]'.
"""

import sys

import backprop as bp
import matplotlib

matplotlib.use("Agg")

from backprop import plotting
from matplotlib import pyplot as plt
from matplotlib.animation import PillowWriter
from sklearn.datasets import make_moons

path = sys.argv[1] if len(sys.argv) > 1 else "boundary.gif"
n_frames = int(sys.argv[2]) if len(sys.argv) > 2 else 40

X, y = make_moons(200, noise=0.2, random_state=0)
net = bp.mlp([2, 16, 16, 2], hidden="tanh", output="softmax", seed=0)

figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
writer = PillowWriter(fps=8)
with writer.saving(figure, path, dpi=80):
    for frame in range(n_frames):
        ax.clear()
        plotting.plot_decision_boundary(net, X, y, ax, resolution=100)
        accuracy = (net.predict(X).argmax(axis=1) == y).mean()
        ax.set_title(f"epoch {net.history.epochs}: {accuracy:.0%} right")
        writer.grab_frame()
        # Less and less happens in an epoch, so more and more of them pass between two frames.
        net.fit(X, y, optimizer=bp.Adam(learning_rate=0.01), epochs=1 + frame // 4, batch_size=50)
print(f"{path}: {n_frames} frames, {net.history.epochs} epochs, loss {net.history.loss[-1]:.3f}")
