
class Houlsby(Method):
    """Bottlenecks that read the outputs of the attention and of the feed-forward part (Houlsby et al. 2019)."""

    def __init__(self, config, plan):
        super().__init__()
        plan = {"non_linearity": "swish"} | plan
        self.attention, self.ffn = Bottleneck(config, plan), Bottleneck(config, plan)

    def after_attention(self, total, f, a, norm, real):
        return total + self.attention(f, real)

    def after_ffn(self, total, f, a, norm, real):
        return total + self.ffn(f, real)
