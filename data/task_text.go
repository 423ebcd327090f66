package data

import (
	"errors"
	"fmt"
	"sort"
	"strings"
	"unicode/utf8"

	"peftsearch/data/metric"
	"peftsearch/data/quote"
	"peftsearch/data/tokenizer"
)

// text is written by a model that has read a row. Its label is the text, or in .jsonl a list of several references, of
// which a model is taught the first.
type text struct{ plain }

func (text) form() metric.Form { return metric.Texts }

func (text) metrics() []metric.Name {
	return []metric.Name{metric.TokenAccuracy, metric.TokenProbability, metric.ExactMatch, metric.BLEU, metric.ChrF,
		metric.ChrFPlus, metric.ROUGE1, metric.ROUGE2, metric.ROUGEL, metric.ROUGELsum, metric.ROUGE1Unicode,
		metric.ROUGE2Unicode, metric.ROUGELUnicode, metric.ROUGELsumUnicode}
}

func (text) keys() []columnKey {
	return []columnKey{keyText, keyTextPair, {name: "label", required: true, list: true, answer: true}}
}

func (text) classes(t Task, _ layout, _ []record) ([]string, error) {
	if t.Labels != nil {
		return nil, fmt.Errorf("labels: a %s has none", KindText)
	}
	return nil, nil
}

func (text) target(l layout, r record, _ Row, _ []string, bad *problems) []float64 {
	references := l.values(r, "label")
	if len(references) == 0 {
		bad.add(r.line, "%s is missing or empty", l.names("label"))
	}
	for i, reference := range references {
		if strings.TrimSpace(visible(reference)) == "" {
			bad.add(r.line, "%s is missing or empty", l.names("label"))
		}
		references[i] = strings.ToValidUTF8(reference, "\ufffd")
	}
	return metric.Target(references)
}

func (text) counted([]float64) []int { return nil }

// outputs are the loss of a token, and 1 if it is the most probable one.
func (text) outputs(int) int { return 2 }

// The places of a template.
const (
	placeText     = "{text}"
	placeTextPair = "{text_pair}"
	placeLabel    = "{label}"
)

// checkTemplate refuses a template that does not say where everything stands.
func (t Task) checkTemplate() error {
	places := []string{placeText, placeLabel}
	if t.Columns.TextPair != "" {
		places = append(places, placeTextPair)
	}
	for _, place := range places {
		if strings.Count(t.Template, place) != 1 {
			return fmt.Errorf("template %s: must have %s once", quote.Text(t.Template), strings.Join(places, ", "))
		}
	}
	if !strings.HasSuffix(t.Template, placeLabel) {
		return fmt.Errorf("template %s: must end with %s", quote.Text(t.Template), placeLabel)
	}
	return nil
}

// prompt is what the model reads of a row whose text is cut to so many bytes, and the space before the label, which
// belongs to what is written.
func (t Task) prompt(row Row, size int) (read, space string) {
	before := strings.TrimSuffix(t.Template, placeLabel)
	read = strings.TrimRight(before, " \t\n")
	return strings.NewReplacer(placeText, row.Text[:size], placeTextPair, row.TextPair).Replace(read), before[len(read):]
}

// Prompt is what a model reads of a row before it writes.
func (t Task) Prompt(row Row) string {
	read, _ := t.prompt(row, len(row.Text))
	return read
}

// encode reads the prompt and what is written but for its last token, and marks the tokens before each of the written
// ones. A text that is too long is cut at its end, what is written too.
func (text) encode(t *tokenizer.Tokenizer, task Task, e Example) Input {
	read, space := task.prompt(e.Row, len(e.Text))
	in := Input{Sequences: []tokenizer.Encoding{t.Encode(task.MaxLength+1, read)}}
	if len(in.Sequences[0].IDs) > task.MaxLength {
		in.Truncated = true
		in.Sequences[0] = t.Encode(task.MaxLength, task.fitting(t, e.Row))
	}
	sequence := &in.Sequences[0]
	if len(sequence.IDs) == 0 { // a model reads something of every row
		sequence.IDs, sequence.TypeIDs = []int32{max(0, t.Special().BOS)}, []int32{0}
	}
	prompt := len(sequence.IDs)
	if e.Target == nil {
		in.Marked = []int{prompt - 1}
		return in
	}
	in.Next = t.Continue(space + strings.TrimSpace(metric.References(e.Target)[0]))
	if end := t.Special().EOS; end >= 0 {
		in.Next = append(in.Next, end)
	}
	if most := task.Generation.MaxNewTokens; len(in.Next) > most {
		in.Next, in.Truncated = in.Next[:most], true
	}
	for i, id := range in.Next {
		in.Marked = append(in.Marked, prompt-1+i)
		if i < len(in.Next)-1 {
			sequence.IDs, sequence.TypeIDs = append(sequence.IDs, id), append(sequence.TypeIDs, 0)
		}
	}
	return in
}

// fitting is the prompt with the longest beginning of the text that fits.
func (t Task) fitting(tok *tokenizer.Tokenizer, row Row) string {
	var ends []int
	for i := range row.Text {
		ends = append(ends, i)
	}
	prompt := func(i int) string {
		read, _ := t.prompt(row, ends[i])
		return read
	}
	most := sort.Search(len(ends), func(i int) bool {
		return len(tok.Encode(t.MaxLength+1, prompt(i)).IDs) > t.MaxLength
	})
	return prompt(max(0, most-1))
}

func (text) wanted(in Input, _ []float64) []float64 {
	wanted := make([]float64, len(in.Next))
	for i, id := range in.Next {
		wanted[i] = float64(id)
	}
	return wanted
}

// answer sums the outputs; what is written is not known from them.
func (text) answer(_ Input, outputs []float64, _ []string) []float64 {
	sums := []float64{0, 0, float64(len(outputs) / 2)}
	for i, v := range outputs {
		sums[i%2] += v
	}
	return sums
}

func (text) check(t Task, row Row) error {
	if row.Text == "" || t.Columns.TextPair != "" && row.TextPair == "" {
		return errors.New("it has not all texts that the model was trained on")
	}
	if !utf8.ValidString(row.Text) {
		return errors.New("its text is no UTF-8")
	}
	return nil
}

func (text) writes() bool { return true }

func (text) say(_ Row, answer []float64, _ []string) []string {
	return []string{metric.Text(answer[3:])}
}

// lines is one line, whatever was written.
func (text) lines(_ Row, said []string) []string {
	return []string{strings.NewReplacer("\r\n", " ", "\n", " ", "\r", " ").Replace(strings.Join(said, " "))}
}

// Written completes the answer of a row of [KindText] with the text that was written.
func Written(answer []float64, text string) []float64 {
	return append(answer[:len(answer):len(answer)], metric.Points(strings.TrimSpace(text))...)
}
