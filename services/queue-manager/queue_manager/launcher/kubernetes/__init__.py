"""The launcher for a Kubernetes cluster: one batch/v1 Job per launch, one pod per ordinal.

What the manifest says is made by pure functions on plain dicts (`manifest`, `patch`) of the launch and the cluster's
`settings`; only the part that talks to the API server may import its client.
"""
