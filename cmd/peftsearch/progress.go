package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"peftsearch/data/quote"
	"peftsearch/evaluator"
	"peftsearch/studies"
	"peftsearch/studies/config"
	"peftsearch/studies/store"
)

// display shows how far work has come: a bar with a line of text on a terminal, or a view of all of it; log lines
// elsewhere.
type display struct {
	view *runView      // nil for none
	bars *mpb.Progress // nil without a terminal
	bar  *mpb.Bar
	text atomic.Value // string beside the bar
	log  *slog.Logger
}

// logFormat is how a display writes log lines.
type logFormat string

// The formats. The first is that of people: it gives way to a bar on a terminal.
const (
	logText logFormat = "text"
	logJSON logFormat = "json"
)

// loggedScore and loggedTime are attributes that people read rounded and machines as a number: of seconds for a time.
// loggedRate is words for people, and an object with the rate of each method and of the others for machines.
type (
	loggedScore float64
	loggedTime  time.Duration
	loggedRate  config.Rate
)

func (s loggedScore) String() string { return score(float64(s)) }
func (t loggedTime) String() string  { return duration(time.Duration(t)) }

func (t loggedTime) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(t).Seconds()) }

func (r loggedRate) String() string {
	of, others := config.Rate(r).Methods().Map(), config.Rate(r).Default()
	if len(of) == 0 {
		return fmt.Sprintf("%g for all", others)
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		words = append(words, fmt.Sprintf("%s %g", name, of[name]))
	}
	return strings.Join(append(words, fmt.Sprintf("others %g", others)), ", ")
}

func (r loggedRate) MarshalJSON() ([]byte, error) {
	of := config.Rate(r).Methods().Map()
	of["others"] = config.Rate(r).Default()
	return json.Marshal(of)
}

// newDisplay starts a display on stderr, which is silent if quiet.
func (g *globals) newDisplay(stderr io.Writer, format logFormat) *display {
	d := &display{log: slog.New(slog.DiscardHandler)}
	d.text.Store("")
	switch {
	case g.quiet:
	case isTerminal(os.Stderr) && format == logText:
		d.bars = mpb.New(mpb.WithOutput(os.Stderr), mpb.WithWidth(20), mpb.WithRefreshRate(200*time.Millisecond))
		d.bar = d.bars.New(0, mpb.BarStyle().Lbound("").Rbound("").Filler("█").Tip("█").Padding("░"),
			mpb.AppendDecorators(decor.Any(func(decor.Statistics) string { return d.text.Load().(string) })))
	default:
		level := slog.LevelInfo
		if g.verbose {
			level = slog.LevelDebug
		}
		options := &slog.HandlerOptions{Level: level}
		if d.log = slog.New(slog.NewTextHandler(stderr, options)); format == logJSON {
			d.log = slog.New(slog.NewJSONHandler(stderr, options))
		}
	}
	return d
}

// logs reports whether there is nothing but log lines.
func (d *display) logs() bool { return d.bars == nil && d.view == nil }

// update moves the bar.
func (d *display) update(current, total int, parts ...string) {
	if d.bars != nil {
		d.text.Store(strings.Join(parts, "  "))
		d.bar.SetTotal(int64(total), false)
		d.bar.SetCurrent(int64(current))
	}
}

// note writes a message: above the bar, or to the log.
func (d *display) note(level slog.Level, message string, attributes ...any) {
	if d.logs() {
		d.log.Log(context.Background(), level, message, attributes...)
		return
	}
	fmt.Fprintln(d.writer(nil), quote.Line(sentence(message, attributes)))
}

// sentence is a message with its attributes for people: what it is of, the message, and what there is to say about it.
func sentence(message string, attributes []any) string {
	subject, details, why := "", "", ""
	for i := 0; i+1 < len(attributes); i += 2 {
		name, value := fmt.Sprint(attributes[i]), fmt.Sprint(attributes[i+1])
		switch name {
		case "trial", "plan", "seed", string(store.JobCalibration), string(store.JobReplicate),
			string(store.JobMap):
			subject += name + " " + value + " "
		case "reason", "rates":
			why += "; " + value
		default:
			details += ", " + name + " " + value
		}
	}
	if details != "" {
		details = " (" + strings.TrimPrefix(details, ", ") + ")"
	}
	if why != "" {
		why = ": " + strings.TrimPrefix(why, "; ")
	}
	return subject + message + details + why
}

// writer is where other programs' logs go while the display is on.
func (d *display) writer(stderr io.Writer) io.Writer {
	switch {
	case d.view != nil:
		return d.view
	case d.bars != nil:
		return d.bars
	}
	return stderr
}

// leave gives the terminal back where the program ends at once.
func (d *display) leave() {
	if d.view != nil {
		d.view.program.Kill()
	}
}

// close leaves the bar as it is.
func (d *display) close() {
	if d.view != nil {
		d.view.close()
	}
	if d.bars != nil {
		d.bar.Abort(false)
		d.bars.Wait()
	}
}

// doing says in a line what a worker does beside steps.
func doing(d evaluator.Doing) string {
	text := d.What
	switch {
	case d.Of > 0:
		text += fmt.Sprintf(" %d/%d", d.Done, d.Of)
	case d.Done > 0:
		text += fmt.Sprintf(" %d", d.Done)
	}
	if d.Left > 0 {
		text += "  ETA " + seconds(d.Left)
	}
	return text
}

// waits is what a log says of work beside steps: nothing of what is short.
type waits struct {
	what   string
	logged time.Time // or when it began
}

// logEvery is how long work beside steps takes before it is logged, and until it is again.
const logEvery = 5 * time.Second

// log writes what a worker does, as seldom as that is news.
func (w *waits) log(d *display, doing evaluator.Doing, of ...any) {
	level := slog.LevelDebug
	switch {
	case doing.What != w.what:
		*w = waits{doing.What, time.Now()}
	case time.Since(w.logged) >= logEvery:
		level, w.logged = slog.LevelInfo, time.Now()
	}
	if doing.Of > 0 {
		of = append(of, "done", doing.Done, "of", doing.Of)
	}
	if doing.Left > 0 {
		of = append(of, "remaining", loggedTime(doing.Left*float64(time.Second)))
	}
	d.note(level, doing.What, of...)
}

// searchProgress shows a search.
type searchProgress struct {
	*display
	waits  map[string]*waits // by what is trained
	status studies.Status
	at     time.Time // of status
}

// event takes an event of studies.Study.Run.
func (s *searchProgress) event(e studies.Event) {
	name, number, plan, params, origin, failure := "trial", e.Trial.Number, e.Trial.Candidate.Plan, e.Trial.Params,
		e.Trial.Origin, e.Trial.Failure
	if j := e.Job; j != nil {
		name, number, plan, origin, failure = string(j.Kind), j.Number, j.Candidate.Plan, string(j.Kind), j.Failure
	}
	trial := []any{name, number}
	running := ""
	if e.Kind == studies.EventProgress {
		running = fmt.Sprintf("#%d %d/%d", number, e.Progress.Step, e.Progress.Steps)
		if e.Progress.What != "" {
			running = fmt.Sprintf("#%d %s", number, doing(e.Progress.Doing))
		}
		switch {
		case !s.logs():
		case e.Progress.What != "":
			if s.waits[fmt.Sprint(trial...)] == nil {
				s.waits[fmt.Sprint(trial...)] = &waits{}
			}
			s.waits[fmt.Sprint(trial...)].log(s.display, e.Progress.Doing, trial...)
		default:
			s.note(slog.LevelDebug, string(e.Kind), append(trial, "step", e.Progress.Step, "steps", e.Progress.Steps, "loss",
				e.Progress.Loss)...)
		}
	} else {
		s.status, s.at = e.Status, time.Now()
		delete(s.waits, fmt.Sprint(trial...))
	}
	switch e.Kind {
	case studies.EventFailed, studies.EventRetried:
		s.note(slog.LevelWarn, string(e.Kind), append(trial, "reason", firstLine(failure.Error()))...)
	case studies.EventTaken:
		s.note(slog.LevelWarn, "was taken over by another process", trial...)
	case studies.EventWaiting:
		s.note(slog.LevelInfo, "waiting for trials that other processes run", "trials", e.Elsewhere)
	case studies.EventDelayed:
		s.note(slog.LevelWarn, "waiting for the database; nothing is lost", "reason", firstLine(e.Err.Error()))
	case studies.EventStarted:
		if s.logs() {
			s.note(slog.LevelInfo, string(e.Kind), append(trial, "plan", plan.String(), "params", params, "from", origin)...)
		}
	case studies.EventCalibrated:
		s.note(slog.LevelInfo, "learning rates are calibrated", "rates", loggedRate(e.Rate))
	case studies.EventUncalibrated:
		s.note(slog.LevelInfo, "learning rates are not calibrated", "reason", e.Err.Error(), "rates",
			loggedRate(e.Rate))
	case studies.EventMapped:
		s.note(slog.LevelInfo, "it starts with what weights that all plans share tell", "trainings",
			fmt.Sprintf("%.1f", e.Job.Share), "took", loggedTime(e.Job.Result.WallS*float64(time.Second)))
	case studies.EventUnmapped:
		s.note(slog.LevelInfo, "plans are tried without a map of shared weights", "reason", e.Err.Error())
	case studies.EventFinished:
		if e.Job != nil {
			if s.logs() {
				s.note(slog.LevelInfo, string(e.Kind), append(trial, jobWords(*e.Job)...)...)
			}
		} else if s.logs() {
			message := string(e.Kind)
			trial = append(trial, "score", loggedScore(e.Trial.Result.Score))
			if e.Trial.State == store.Pruned { // its score is not comparable with those of whole trainings
				message = string(store.Pruned)
				trial = append(trial, "forecast", loggedScore(e.Trial.Forecast.Score))
			}
			trial = append(trial, "params", e.Trial.Params, "done", s.status.Done())
			if s.status.Hours > 0 {
				trial = append(trial, "trained", loggedTime(s.status.Used), "of", loggedTime(s.status.Hours))
			} else {
				trial = append(trial, "of", s.status.Trials)
			}
			s.note(slog.LevelInfo, message, append(trial, "front", s.status.FrontSize, "hypervolume",
				loggedScore(s.status.Hypervolume), "remaining", loggedTime(s.status.Remaining))...)
		}
	}
	s.show(running)
}

// jobWords are what the log says of a training beside the trials that has ended.
func jobWords(j store.Job) []any {
	words := []any{"score", loggedScore(j.Result.Score)}
	switch j.Kind {
	case store.JobMap:
		return []any{"steps", j.Result.Steps}
	case store.JobReplicate:
		return append(words, "of_trial", j.Trial)
	}
	return append(words, "method", j.Method, "rate", j.Candidate.Training.LearningRate)
}

// show writes the line beside the bar.
func (s *searchProgress) show(running string) {
	st := s.status
	parts := []string{fmt.Sprintf("%d/%s", st.Done(), budgetOf(st)), fmt.Sprintf("running %d", st.Running)}
	if st.Pruned > 0 {
		parts = append(parts, fmt.Sprintf("pruned %d", st.Pruned))
	}
	if st.Failed > 0 {
		parts = append(parts, fmt.Sprintf("failed %d", st.Failed))
	}
	if st.Best != nil {
		parts = append(parts, fmt.Sprintf("best %s @ %s", score(st.Best.Score), brief(st.Best.Params)),
			fmt.Sprintf("HV %s", score(st.Hypervolume)), fmt.Sprintf("front %d", st.FrontSize))
	}
	if left := st.Remaining - time.Since(s.at); st.Remaining > 0 {
		parts = append(parts, "ETA "+duration(max(left, 0)))
	}
	if st.Hours > 0 { // progress is that of time
		s.update(int(st.Used.Seconds()), int(st.Hours.Seconds()), append(parts, running)...)
		return
	}
	s.update(st.Done(), st.Trials, append(parts, running)...)
}

// confirmProgress shows trainings on several seeds.
type confirmProgress struct {
	*display
	names map[string]string // by the candidate's key
}

// event takes an event of studies.Study.Confirm.
func (c *confirmProgress) event(e studies.ConfirmEvent) {
	name := c.names[e.Candidate.Key()]
	training := []any{"plan", name, "seed", e.Seed}
	running := ""
	switch e.Kind {
	case studies.EventProgress:
		running = fmt.Sprintf("%s, seed %d: %d/%d", name, e.Seed, e.Progress.Step, e.Progress.Steps)
		if e.Progress.What != "" {
			running = fmt.Sprintf("%s, seed %d: %s", name, e.Seed, doing(e.Progress.Doing))
		} else if c.logs() {
			c.note(slog.LevelDebug, string(e.Kind), append(training, "step", e.Progress.Step, "steps", e.Progress.Steps,
				"loss", e.Progress.Loss)...)
		}
	case studies.EventFailed:
		c.note(slog.LevelWarn, string(e.Kind), append(training, "reason", firstLine(e.Failure.Error()))...)
	case studies.EventDelayed:
		c.note(slog.LevelWarn, "waiting for the database; nothing is lost", "reason", firstLine(e.Err.Error()))
	case studies.EventFinished:
		c.note(slog.LevelInfo, string(e.Kind), append(training, "test", loggedScore(e.Score), "done", e.Done, "of",
			e.Total)...)
	case studies.EventStarted:
		if c.logs() {
			c.note(slog.LevelInfo, string(e.Kind), training...)
		}
	}
	c.update(e.Done, e.Total, fmt.Sprintf("%d/%d", e.Done, e.Total), running)
}

// trainProgress shows the training of one plan.
type trainProgress struct {
	*display
	start time.Time
	first int // step at start, above 0 if training continues
	best  *float64
	waits waits
}

// loading takes what the worker does before its first step.
func (t *trainProgress) loading(p evaluator.Progress) {
	t.update(0, 0, doing(p.Doing))
	if t.logs() {
		t.waits.log(t.display, p.Doing)
	}
}

// report takes the evaluator's reports.
func (t *trainProgress) report(p evaluator.Progress) evaluator.Verdict {
	if p.Steps == 0 {
		t.loading(p)
		return evaluator.Verdict{}
	}
	if t.start.IsZero() {
		t.start, t.first = time.Now(), p.Step
	}
	if p.Score != nil && (t.best == nil || *p.Score > *t.best) {
		t.best = p.Score
	}
	parts := []string{fmt.Sprintf("step %d/%d", p.Step, p.Steps), "loss " + score(p.Loss)}
	if t.best != nil {
		parts = append(parts, "best dev "+score(*t.best))
	}
	if done := p.Step - t.first; done > 0 {
		left := time.Duration(float64(time.Since(t.start)) / float64(done) * float64(p.Steps-p.Step))
		parts = append(parts, "ETA ≤ "+duration(left)) // early stopping may end it before
	}
	t.update(p.Step, p.Steps, parts...)
	level := slog.LevelDebug
	if p.Score != nil {
		level = slog.LevelInfo
	}
	if t.logs() {
		t.note(level, strings.Join(parts, ", "))
	}
	return evaluator.Verdict{}
}
