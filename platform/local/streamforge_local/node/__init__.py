"""The local node: on one machine what a kubelet and a Job controller are in a cluster.

It takes Jobs over a unix socket, runs their ordinals as processes and keeps what came of them. It knows nothing of
workflows: what a Job means is its client's. It must never import a service; its wire format is described in
docs/reference/local-node.md.
"""
