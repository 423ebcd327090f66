
class Layer(Block):
    """LN(a + W·f(W·a)) for a = LN(x + attention(x)), and what the modules do to it."""

    def mask(self, visible, s):
        return visible[:, None, None]

    def forward(self, x, real):  # [n, s, D], [n, s]
        a = self.attention_norm(self.sum("after_attention", self.attention(x, real), x, self.attention_norm, real))
        return self.ffn_norm(self.sum("after_ffn", self.ffn(a, real), a, self.ffn_norm, real))


class Backbone(PreTrainedModel):
    config_class = HybridConfig

    def __init__(self, config):
        super().__init__(config)
        width = config.embedding_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.embeddings_norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        if width != config.hidden_size:
            self.embeddings_project = nn.Linear(width, config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def positions(self, ids):
        """0, 1, …; RoBERTa and its kin begin after the padding's id, and count what is no padding."""
        if not self.config.positions_after_pad:
            return torch.arange(ids.shape[1], device=ids.device)[None]
        real = (ids != self.config.pad_token_id).long()
        return real.cumsum(1) * real + self.config.pad_token_id

    def embed(self, x, ids, types, real):  # the embeddings of words
        x = x + self.position_embeddings(self.positions(ids))
        if self.config.type_vocab_size:
            x = x + self.token_type_embeddings(types)
        x = self.dropout(self.embeddings_norm(x))
        return x if self.config.embedding_size == self.config.hidden_size else self.embeddings_project(x)

    def end(self, x):
        return x

    def row(self, x, real):
        return x[:, 0]
