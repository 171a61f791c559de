"""The whole of Knudge on a real cluster: whatever `KUBECONFIG` points to. `make e2e` runs these; `make test` does not."""
