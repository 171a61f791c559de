"""The container images, really built and really run: `make image-test`."""
