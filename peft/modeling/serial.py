
class Serial(Bottleneck):
    """A bottleneck that reads the normed sum (Pfeiffer et al. 2021, "AdapterFusion")."""

    def after_ffn(self, total, f, a, norm, real):
        return total + self(norm(f + a), real)
