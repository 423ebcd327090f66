
class HybridForTokenClassification(Hybrid):
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, **ignored):
        logits, loss = self.head(self.encode_text(input_ids, attention_mask, token_type_ids)), None
        if labels is not None:  # -100 for tokens that do not count: all of a word but its first
            loss = F.cross_entropy(logits.view(-1, logits.shape[-1]), labels.view(-1))
        return TokenClassifierOutput(loss=loss, logits=logits)
