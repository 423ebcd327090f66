package evaluator

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"unicode"

	"peftsearch/data/metric"
)

func TestScoresBesideTheRangeAreRounded(t *testing.T) {
	for text, want := range map[string]float64{"1.0000000000000002": 1, "-1.0000001": -1, "0.25": 0.25} {
		r, err := decodeResult([]byte(`{"type":"result","trial":1,"best_step":1,"steps":2,"score":`+text+`,"test":{"pearson":`+text+`}}`), newScale(metric.Pearson, nil))
		if err != nil || r.Score != want || r.Test["pearson"] != want {
			t.Errorf("%s: %g and %v (%v)", text, r.Score, r.Test, err)
		}
	}
	if _, err := decodeProgress([]byte(`{"trial":1,"step":1,"steps":1,"score":-1.1}`),
		newScale(metric.Spearman, nil)); err == nil {
		t.Error("-1.1 is a correlation")
	}
}

func TestAWorkersOwnRange(t *testing.T) {
	s := newScale(metric.Pearson, &Metric{Name: metric.Pearson, Low: 0, High: 2})
	if s.low != 0 || s.high != 1 {
		t.Errorf("%+v", s)
	}
	if s := newScale("", nil); checkScore(nil, new(1e9), s) != nil {
		t.Error("a score in a metric that is not known is refused")
	}
}

func TestProgressThatIsASignOfLife(t *testing.T) {
	if p, err := decodeProgress([]byte(`{"type":"progress","trial":1}`), newScale(metric.Accuracy, nil)); err != nil ||
		p.Steps != 0 || p.Score != nil {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("y", MaxLine+1)
	for name, test := range map[string]struct {
		input string
		want  []string
		err   error
		rest  int // bytes that come with the error
	}{
		"none":                 {"", nil, io.EOF, 0},
		"two":                  {"{}\n  {\"a\":1} \r\n", []string{"{}", `{"a":1}`}, io.EOF, 0},
		"one without an end":   {"{}\n{", []string{"{}"}, io.EOF, 1},
		"blank":                {"\n\n", []string{"", ""}, io.EOF, 0},
		"a line of 1 MB":       {strings.Repeat("x", 1<<20) + "\n", []string{strings.Repeat("x", 1<<20)}, io.EOF, 0},
		"the longest":          {long[2:] + "\n", []string{long[2:]}, io.EOF, 0},
		"too long":             {"{}\n" + long + "\n{}\n", []string{"{}"}, errLongLine, 1024},
		"too long, no end yet": {long, nil, errLongLine, 1024},
	} {
		r := bufio.NewReaderSize(strings.NewReader(test.input), 64<<10)
		var got []string
		text, err := readLine(r)
		for ; err == nil; text, err = readLine(r) {
			got = append(got, string(text))
		}
		if !errors.Is(err, test.err) || len(text) != test.rest || strings.Join(got, "|") != strings.Join(test.want, "|") {
			t.Errorf("%s: %d lines, then %v with %d bytes", name, len(got), err, len(text))
		}
	}
}

func TestOOMFiles(t *testing.T) {
	for memberships, want := range map[string]string{
		"0::/user.slice/a.scope\n":               "/sys/fs/cgroup/user.slice/a.scope/memory.events",
		"9:name=systemd:/x\n4:memory:/box\n0::/": "/sys/fs/cgroup/memory/box/memory.oom_control",
		"0::/\n":                                 "/sys/fs/cgroup/memory.events",
	} {
		if files := oomFiles(memberships); len(files) == 0 || files[0] != want {
			t.Errorf("%q: %q", memberships, files)
		}
	}
	if files := oomFiles("nonsense\n"); len(files) != 0 {
		t.Errorf("%q", files)
	}
}

// FuzzMessage feeds a worker's line to every reader of messages: what they accept is sound, and what they refuse
// is said in a short and printable message.
func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"type":"progress","trial":7,"step":86,"steps":345,"loss":0.39,"score":0.81}`))
	f.Add([]byte(`{"type":"result","trial":7,"score":0.83,"best_step":345,"steps":345,"dev":{"accuracy":0.83},"wall_s":38.1,"peak_bytes":812000000,"head_params":385}`))
	f.Add([]byte(`{"type":"failed","trial":7,"kind":"diverged","message":"loss"}`))
	f.Add([]byte(`{"type":"ready","protocol":2,"rungs":"free","geometry":{"architecture":"bert","layers":2},"splits":{"train":{"rows":5,"truncated":1}},"metric":{"name":"accuracy","low":0,"high":1}}`))
	accuracy := newScale(metric.Accuracy, nil)
	f.Fuzz(func(t *testing.T, text []byte) {
		refused := func(err error) bool {
			if err == nil {
				return false
			}
			failure := slipFailure(7, err)
			if len(failure.Message) > 2100 || strings.ContainsFunc(failure.Message,
				func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }) {
				t.Errorf("the message is %q", failure.Message)
			}
			return true
		}
		within := func(score float64) {
			if !(score >= 0 && score <= 1) {
				t.Errorf("score %g", score)
			}
		}
		_, err := decodeHeader(line{text: text})
		refused(err)
		if p, err := decodeProgress(text, accuracy); !refused(err) {
			if p.Score != nil {
				within(*p.Score)
			}
			if p.Step < 0 || p.Step > p.Steps || math.IsNaN(p.Loss) || math.IsInf(p.Loss, 0) {
				t.Errorf("progress %+v", p)
			}
		}
		if r, err := decodeResult(text, accuracy); !refused(err) {
			within(r.Score)
			if r.Steps < 1 || r.BestStep < 1 || r.BestStep > r.Steps || r.WallS < 0 || r.PeakB < 0 || r.Head < 0 {
				t.Errorf("result %+v", r)
			}
			if score, ok := r.Test["accuracy"]; ok {
				within(score)
			}
		}
		if failure, err := decodeFailed(text); !refused(err) {
			refused(failure)
		}
		if r, err := decodeReady(text, metric.Accuracy); !refused(err) {
			if r.Protocol != ProtocolVersion || r.Geometry.Layers < 0 || r.Splits.Dev.Truncated > r.Splits.Dev.Rows {
				t.Errorf("ready %+v", r)
			}
		}
		reader := bufio.NewReader(bytes.NewReader(text))
		for got, err := readLine(reader); err == nil; got, err = readLine(reader) {
			if bytes.ContainsRune(got, '\n') {
				t.Errorf("a line with a line break: %q", got)
			}
		}
	})
}
