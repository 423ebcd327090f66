
class Parallel(Bottleneck):
    """A bottleneck beside the feed-forward part (He et al. 2022, "Towards a Unified View")."""

    own = Bottleneck.own | {"scale": 4.0}

    def after_ffn(self, total, f, a, norm, real):
        return total + self(a, real)
