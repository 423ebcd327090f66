
class BitFit(Method):
    """The layer's own biases are trained, and the weights of its norms if the plan says so (Ben Zaken et al. 2022)."""

    def __init__(self, config, plan):
        super().__init__()
        self.norms = plan.get("norms", False)

    def trains(self, name):
        return name.endswith(".bias") or self.norms and "norm" in name
