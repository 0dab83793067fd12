"""Pictures of networks and of their training, drawn by matplotlib (the extra ``plot``).

Every function takes an Axes, or makes a figure of its own for None, and returns the Axes, on which more can be drawn.
Colours are of Okabe and Ito's palette, which everyone can tell apart, and lines differ in their dashes as well; what
has no colour of its own takes matplotlib's, so that dark styles work.
"""

from backprop.plotting.curves import check_path, plot_batch_sizes, plot_history, plot_loss, plot_range_test
from backprop.plotting.descents import plot_descent
from backprop.plotting.networks import plot_activation, plot_gradients, plot_network, plot_trace, plot_weights
from backprop.plotting.surfaces import plot_decision_boundary, plot_loss_surface

__all__ = [
    "check_path",
    "plot_activation",
    "plot_batch_sizes",
    "plot_decision_boundary",
    "plot_descent",
    "plot_gradients",
    "plot_history",
    "plot_loss",
    "plot_loss_surface",
    "plot_network",
    "plot_range_test",
    "plot_trace",
    "plot_weights",
]
