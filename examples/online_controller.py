"""A controller that is trained online: each time step is one row, learned once, at batch size 1.

A motor swings a pendulum along a given curve. A weak feedback controller alone lags behind, because it knows nothing of
gravity, inertia and friction. The network learns, while the pendulum swings, which torque the motion needs, and the
feedback has less and less to correct: feedback-error learning, after M. Kawato et al., "A hierarchical neural-network
model for control and learning of voluntary movement" (1987).
"""

import backprop as bp
import numpy as np

STEP, LAP = 0.01, 10.0
STIFFNESS, DAMPING = 8.0, 2.0


def wanted(t):
    """Angle, speed and acceleration that the pendulum should have."""
    w = 2 * np.pi / LAP
    angle = 1.2 * np.sin(2 * w * t) + 0.5 * np.sin(3 * w * t)
    speed = 2.4 * w * np.cos(2 * w * t) + 1.5 * w * np.cos(3 * w * t)
    acceleration = -4.8 * w**2 * np.sin(2 * w * t) - 4.5 * w**2 * np.sin(3 * w * t)
    return angle, speed, acceleration


def acceleration_of(angle, speed, torque):
    """The pendulum, which the controller does not know: gravity, and friction that grows faster than the speed."""
    return torque - 9.81 * np.sin(angle) - 0.8 * speed - 0.2 * speed * abs(speed)


net = bp.mlp([3, 24, 1], hidden="tanh", dtype="float32", seed=0)
# Settings of the loss and the optimizer are made once; each call of fit is one step on one row.
learn = {"loss": bp.losses.SquaredError(scale=0.5), "optimizer": bp.SGD(learning_rate=0.02), "epochs": 1}

angle = speed = 0.0
steps = round(LAP / STEP)
for lap in range(8):
    errors, feedbacks = [], []
    for k in range(steps):
        goal = wanted(k * STEP)
        x = np.array([goal], np.float32) / [1.5, 1.5, 2.5]
        forward = float(net.predict(x.astype(np.float32))[0, 0]) * 10
        feedback = STIFFNESS * (goal[0] - angle) + DAMPING * (goal[1] - speed)
        torque = forward + feedback
        # The torque that was applied is the target: what the feedback had to add is what the network did not know.
        net.fit(x, np.array([torque / 10]), **learn, progress=False)
        speed += STEP * acceleration_of(angle, speed, torque)
        angle += STEP * speed
        errors.append(angle - goal[0])
        feedbacks.append(feedback)
    print(
        f"lap {lap + 1}: off by {np.degrees(np.sqrt(np.mean(np.square(errors)))):5.2f} degrees, "
        f"feedback torque {np.sqrt(np.mean(np.square(feedbacks))):.3f}"
    )
print(f"{net.history.epochs:,} steps of online training, {1e6 * net.history.elapsed / net.history.epochs:.0f} µs each")
