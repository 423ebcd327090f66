
class HybridForMultipleChoice(Hybrid):
    def forward(self, input_ids, attention_mask=None, token_type_ids=None, labels=None, **ignored):
        """input_ids [n, choices, s]; logits [n, choices]."""
        rows = [None if x is None else x.flatten(0, 1) for x in (input_ids, attention_mask, token_type_ids)]
        logits, loss = self.head(self.encode_row(*rows)).view(input_ids.shape[:2]), None
        if labels is not None:
            loss = F.cross_entropy(logits, labels)
        return MultipleChoiceModelOutput(loss=loss, logits=logits)
