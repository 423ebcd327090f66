package worker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"peftsearch/evaluator"
	"peftsearch/evaluator/worker"
)

func bench(t *testing.T, job evaluator.Job, measure string) (map[string]any, error) {
	t.Helper()
	var in, out bytes.Buffer
	messages := json.NewEncoder(&in)
	for _, message := range []any{hello(t), evaluator.EvaluateRequest{Type: evaluator.TypeEvaluate, Job: job},
		json.RawMessage(measure)} {
		if err := messages.Encode(message); err != nil {
			t.Fatal(err)
		}
	}
	if err := worker.Bench(&in, &out); err != nil {
		return nil, err
	}
	var figures map[string]any
	if err := json.Unmarshal(out.Bytes(), &figures); err != nil {
		t.Fatal(err)
	}
	return figures, nil
}

func TestBenchTimesSteps(t *testing.T) {
	figures, err := bench(t, job(), `{"way":"ours","warm_up":1,"batches":[[0,1],[2,3,4],[5,6,7,8]]}`)
	if err != nil {
		t.Fatal(err)
	}
	perSecond, perStep, tokens := figures["tokens_per_s"].(float64), figures["ms_per_step"].(float64),
		figures["tokens"].(float64)
	if seconds := perStep * 2 / 1000; math.Abs(perSecond*seconds-tokens) > 1e-6*tokens || tokens < 7*5 || tokens > 7*64 {
		t.Errorf("%g tokens/s at %g ms a step are not the %g tokens of two steps", perSecond, perStep, tokens)
	}
	if _, trial := figures["wall_s"]; trial || figures["way"] != "ours" || figures["precision"] != "float32" ||
		figures["threads"] != 1.0 || figures["libtorch"] == "" || figures["peak_bytes"].(float64) < 1<<20 {
		t.Errorf("figures %v", figures)
	}
}

func TestBenchOfATrialGivesItsScore(t *testing.T) {
	p, err := open(t, hello(t))
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.Evaluate(context.Background(), job(),
		func(evaluator.Progress) evaluator.Verdict { return evaluator.Verdict{} })
	if err != nil {
		t.Fatal(err)
	}
	figures, err := bench(t, job(), `{"way":"ours"}`)
	if err != nil {
		t.Fatal(err)
	}
	if figures["score"] != want.Score || figures["steps"] != float64(want.Steps) || figures["wall_s"].(float64) <= 0 ||
		figures["eval_tokens_per_s"].(float64) <= 0 {
		t.Errorf("figures %v, the worker's result is %+v", figures, want)
	}
}

func TestBenchRefuses(t *testing.T) {
	for name, test := range map[string]struct{ measure, words string }{
		"a row that is not there":   {`{"warm_up":0,"batches":[[0,960]]}`, "960"},
		"a batch that is too large": {`{"warm_up":0,"batches":[[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]]}`, "16"},
		"an empty batch":            {`{"warm_up":0,"batches":[[]]}`, "0 rows"},
		"nothing to time":           {`{"warm_up":1,"batches":[[0]]}`, "1 of them to warm up"},
		"nothing to measure":        {`""`, "measure"},
	} {
		if _, err := bench(t, job(), test.measure); err == nil || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
}

func TestMatmul(t *testing.T) {
	request := `{"hidden":64,"ffn":128,"tokens":33,"device":"cpu","precision":"%s","threads":2,"repetitions":3}`
	for _, precision := range []string{"float32", "bfloat16"} {
		var out bytes.Buffer
		if err := worker.Matmul(strings.NewReader(fmt.Sprintf(request, precision)), &out); err != nil {
			t.Fatal(err)
		}
		var answer struct {
			GFLOPS     float64 `json:"gflops"`
			Capability string  `json:"capability"`
		}
		if err := json.Unmarshal(out.Bytes(), &answer); err != nil || !(answer.GFLOPS > 0) || answer.Capability == "" {
			t.Errorf("%s: answer %s, %v", precision, out.String(), err)
		}
	}
	if err := worker.Matmul(strings.NewReader(fmt.Sprintf(request, "auto")), io.Discard); err == nil {
		t.Error("a precision that is not measured is accepted")
	}
}
