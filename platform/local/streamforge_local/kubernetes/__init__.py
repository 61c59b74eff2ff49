"""A real Kubernetes for tests: its programs, certificates and control plane on this machine, nodes played by kwok."""
