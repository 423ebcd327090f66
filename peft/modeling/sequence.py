
class HybridForSequenceClassification(Hybrid):
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, **ignored):
        logits, loss = self.head(self.encode_row(input_ids, attention_mask, token_type_ids)), None
        if labels is not None and self.config.problem_type == "regression":
            loss = F.mse_loss(logits.view(-1), labels.view(-1).to(logits.dtype))
        elif labels is not None and self.config.problem_type == "multi_label_classification":
            loss = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
        elif labels is not None:
            loss = F.cross_entropy(logits, labels.view(-1))
        return SequenceClassifierOutput(loss=loss, logits=logits)
