#!/bin/sh
# Events sent by hand, to the broker and to a function. Against a cluster, from a laptop:
#
#     kubectl -n knative-eventing port-forward service/broker-ingress 8081:80 &        # kafka-broker-ingress, where the broker is Kafka's
#     BROKER=http://localhost:8081/knudge/knudge FEEDBACK=http://feedback.knudge.example.com sh eventing/examples/curl.sh DECISION_ID
#
# Against a local run the defaults will do. Every event here is feedback on one decision, whose id is the argument.
set -eu

BROKER=${BROKER:-http://localhost:8080/}
FEEDBACK=${FEEDBACK:-http://localhost:8080/functions/feedback/}
DECISION=${1:?the id of a decision, such as POST /v1/recommend answers}
RUN=$(date +%s)

# Binary mode: the attributes are headers, the body is the data. 202: the broker has it.
curl --silent --show-error --fail --write-out 'binary: %{http_code}\n' "$BROKER" \
  --header 'content-type: application/json' \
  --header 'ce-specversion: 1.0' \
  --header 'ce-type: dev.knudge.feedback.given.v1' \
  --header 'ce-source: /example/shop' \
  --header "ce-id: $RUN-1" \
  --data "{\"decision_id\": \"$DECISION\", \"kind\": \"view\"}"

# Structured mode: one JSON document holds attributes and data.
curl --silent --show-error --fail --write-out 'structured: %{http_code}\n' "$BROKER" \
  --header 'content-type: application/cloudevents+json' \
  --data "{\"specversion\": \"1.0\", \"type\": \"dev.knudge.feedback.given.v1\", \"source\": \"/example/shop\", \"id\": \"$RUN-2\",
           \"data\": {\"decision_id\": \"$DECISION\", \"kind\": \"click\"}}"

# A batch goes to the function itself, for Knative's brokers take one event at a time. 204: every event of it is committed.
curl --silent --show-error --fail --write-out 'batched: %{http_code}\n' "$FEEDBACK" \
  --header 'content-type: application/cloudevents-batch+json' \
  --data "[{\"specversion\": \"1.0\", \"type\": \"dev.knudge.feedback.given.v1\", \"source\": \"/example/shop\", \"id\": \"$RUN-3\",
            \"data\": {\"decision_id\": \"$DECISION\", \"kind\": \"dwell\", \"value\": 12.5}},
           {\"specversion\": \"1.0\", \"type\": \"dev.knudge.feedback.given.v1\", \"source\": \"/example/shop\", \"id\": \"$RUN-4\",
            \"data\": {\"decision_id\": \"$DECISION\", \"kind\": \"purchase\", \"value\": 24.9}}]"
