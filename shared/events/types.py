"""The CloudEvent types that functions take and send. One line each; their data is in `shared.edge.contracts`."""

from __future__ import annotations

RECOMMENDATION_REQUESTED = "dev.knudge.recommendation.requested.v1"
RECOMMENDATION_MADE = "dev.knudge.recommendation.made.v1"
FEEDBACK_GIVEN = "dev.knudge.feedback.given.v1"
DECISION_LOGGED = "dev.knudge.decision.logged.v1"
ASSIGNMENT_REQUESTED = "dev.knudge.assignment.requested.v1"
ASSIGNMENT_MADE = "dev.knudge.assignment.made.v1"
EXPOSURE_RECORDED = "dev.knudge.exposure.recorded.v1"
LEARNING_DUE = "dev.knudge.learning.due.v1"
TRAINING_REQUESTED = "dev.knudge.training.requested.v1"
TRAINING_FINISHED = "dev.knudge.training.finished.v1"
POLICY_PROMOTED = "dev.knudge.policy.promoted.v1"
ANALYSIS_DUE = "dev.knudge.analysis.due.v1"
EXPERIMENT_DECIDED = "dev.knudge.experiment.decided.v1"
PING = "dev.knative.sources.ping"
"""What a PingSource sends; `learn` takes it as a sweep, `train` as a training of every policy, `analyse` as an analysis of every
running experiment."""
