package web

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cdproto "github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdp "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"peftsearch/studies"
)

// browser is a page in a Chromium without a window.
type browser struct {
	testing.TB
	ctx context.Context

	mu       sync.Mutex
	requests []string // of whatever the page loads
	errors   []string // of the console
}

// browse starts Chromium, where there is one.
func browse(t testing.TB) *browser {
	t.Helper()
	const path = "/usr/bin/chromium"
	if _, err := os.Stat(path); err != nil {
		t.Skip("there is no " + path + ": apt-get install chromium")
	}
	options := append(
		chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path),
		chromedp.NoSandbox,
		chromedp.WSURLReadTimeout(3*time.Minute), // a busy machine starts it slowly
		chromedp.DisableGPU,
		chromedp.WindowSize(
			1300,
			1000,
		),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
	)
	b := &browser{TB: t}
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b.ctx, cancel = context.WithTimeout(ctx, 10*time.Minute)
	t.Cleanup(cancel)
	if err := chromedp.Listen(b.ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			b.requests = append(b.requests, e.Request.URL)
		case *log.EventEntryAdded:
			b.errors = append(b.errors, e.Entry.Text)
		case *cdp.EventExceptionThrown:
			b.errors = append(b.errors, e.ExceptionDetails.Text+" "+e.ExceptionDetails.Exception.Description)
		case *cdp.EventConsoleAPICalled:
			b.errors = append(b.errors, string(e.Type))
		}
	}); err != nil {
		t.Fatal(err)
	}
	b.do(command(network.Enable, network.EnableParams{}))
	return b
}

// command is a command of the browser's protocol as an action.
func command[P, R any](c cdproto.Command[P, R], params P) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, target *chromedp.Target) error {
		_, err := cdproto.Call(ctx, target, c, params)
		return err
	})
}

// media makes the page believe in a scheme of colours, or in paper.
func media(kind, scheme string) chromedp.Action[chromedp.Void] {
	params := emulation.SetEmulatedMediaParams{Media: kind}
	if scheme != "" {
		params.Features = []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}
	}
	return command(emulation.SetEmulatedMedia, params)
}

func mouse(x, y float64) chromedp.Action[chromedp.Void] {
	return command(input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: "mouseMoved", X: x, Y: y})
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.Fatal(err)
	}
}

func (b *browser) open(url string) {
	b.Helper()
	b.do(chromedp.Navigate(url), chromedp.WaitVisible(`body[data-ready=yes]`))
}

// eval is the value of an expression in the page.
func eval[T any](b *browser, expression string) T {
	b.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.Fatalf("%s: %v", expression, err)
	}
	return v
}

// is waits until an expression is true, for what the page does in its own time.
func (b *browser) is(expression string) {
	b.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if eval[bool](b, "Boolean("+expression+")") {
			return
		}
	}
	b.Fatalf("never true: %s\nbut the page is:\n%.2000s", expression, eval[string](b, "document.body.innerText"))
}

// quiet checks that nothing was written to the console, and nothing loaded but pages at these places.
func (b *browser) quiet(places ...string) {
	b.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.errors) > 0 {
		b.Errorf("the console has %q", b.errors)
	}
	for _, r := range b.requests {
		if !slices.ContainsFunc(places, func(p string) bool { return strings.HasPrefix(r, p) }) {
			b.Errorf("the page loads %s", r)
		}
	}
}

func writeTo(t testing.TB, path string, write func(io.Writer) error) string {
	t.Helper()
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := write(file); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

const figureNames = `[...document.querySelectorAll('figure')].filter(f => !f.hidden).map(f => f.id).join(' ')`

func TestReportInABrowser(t *testing.T) {
	b := browse(t)
	study := sample("first", 100, 1)
	path := writeTo(
		t,
		filepath.Join(t.TempDir(), "r.html"),
		func(w io.Writer) error { return WritePage(w, views(study)) },
	)
	if info, err := os.Stat(path); err != nil || info.Size() > 200<<10 {
		t.Errorf("%d bytes, %v", info.Size(), err)
	}
	b.open("file://" + path)
	if got, want := eval[string](b, figureNames),
		"front confirmed growth effects curves map parallel timeline"; got != want {
		t.Errorf("figures %q, want %q", got, want)
	}

	b.is(
		`document.querySelector('#facts').textContent.includes('bert, 6 layers, 22,565,376 parameters') && !byId('main').textContent.includes('undefined')`,
	)

	// It opens with two trials that differ.
	b.is(`(([a, b]) => a.value !== b.value && a.value !== '' &&
		Number(b.value) === studies[0].front.at(-1))(comparison.inputs)`)
	b.is(`document.querySelectorAll('#comparison tbody tr').length > 2`)

	// The text of a point of the front, under the mouse.
	member := study.Front.Members[len(study.Front.Members)/2]
	at := eval[[]float64](b, `(() => { const t = figures.front.targets[`+number(len(study.Front.Members)/2)+`]
		figures.front.plot.scrollIntoView(); const r = figures.front.plot.getBoundingClientRect(); return [r.x + t.x, r.y + t.y] })()`)
	b.do(mouse(at[0]-40, at[1]-40), mouse(at[0], at[1]))
	b.is(
		`document.querySelector('#front .tip').textContent.startsWith('trial ` + number(
			int(member.Number),
		) + ` · complete · on the front')`,
	)
	if tip := eval[string](b, `document.querySelector('#front .tip').textContent`); !strings.HasSuffix(
		tip,
		"\n"+member.Candidate.Plan.String(),
	) {
		t.Errorf("the tip is %q, the plan %q", tip, member.Candidate.Plan)
	}
	// A click takes it into the comparison, which lists what differs alone.
	b.do(chromedp.MouseClickXY(at[0], at[1]))
	b.is(`document.querySelectorAll('#comparison input')[1].value === '` + number(int(member.Number)) + `'`)
	b.is(
		`[...document.querySelectorAll('#comparison tbody tr')].every(r => r.children[1].textContent !== r.children[2].textContent)`,
	)
	b.is(`document.querySelectorAll('#comparison tbody tr').length > 2`)
	// The arrow keys go on from there along the front.
	b.do(chromedp.Focus("#front .plot"), chromedp.KeyEvent(kb.ArrowRight))
	b.is(
		`document.querySelector('#front .tip').textContent.startsWith('trial ` + number(
			int(study.Front.Members[len(study.Front.Members)/2+1].Number),
		) + ` ·')`,
	)

	// Words filter the table and the figures.
	b.do(chromedp.SendKeys("#filter", "complete score>0.7 params<500k"))
	b.is(`document.querySelector('#table .note').textContent !== '100 of 100'`)
	wanted := 0
	for _, trial := range study.Trials {
		if trial.State == "complete" && trial.Score > 0.7 && trial.Params < 500_000 {
			wanted++
		}
	}
	b.is(`document.querySelectorAll('#table tbody tr').length === ` + number(wanted))
	words := func(text string) {
		eval[bool](b, `search.value = '`+text+`', search.dispatchEvent(new Event('input')), true`)
	}
	// Those of a plan hold in any case, and those that no trial has are named.
	words("L4-5")
	b.is(`document.querySelectorAll('#table tbody tr').length > 0 && !document.querySelector('#table .scroll').hidden`)
	b.is(`[...document.querySelectorAll('#table td.plan')].every(cell => cell.textContent.includes('L4-5'))`)
	words("complete lorra")
	b.is(`document.querySelector('#front > .note').textContent.startsWith('No trial has “lorra”.')`)
	b.is(`document.querySelector('#table .scroll').hidden`)
	words("")
	// A title of the table sorts by it.
	b.do(chromedp.Click(`#table th:nth-child(4) button`))
	b.is(
		`Number(document.querySelector('#table tbody tr td:nth-child(4)').textContent.replaceAll(',', '')) === Math.max(...studies[0].trials.params)`,
	)

	// Dark where the reader's system is dark.
	light := eval[string](b, `getComputedStyle(document.body).backgroundColor`)
	b.do(media("", "dark"))
	dark := eval[string](b, `getComputedStyle(document.body).backgroundColor`)
	if light != "rgb(255, 255, 255)" || dark != "rgb(21, 21, 21)" {
		t.Errorf("the background is %s, in the dark %s", light, dark)
	}
	// What is drawn stands out from what it is drawn on, in the light as in the dark.
	for _, scheme := range []string{"light", "dark"} {
		b.do(media("", scheme))
		if faint := eval[string](b, faintest); faint != "" {
			t.Errorf("%s: too little contrast: %s", scheme, faint)
		}
	}
	// A phone: nothing is wider than the screen.
	b.do(chromedp.EmulateViewport(390, 844, chromedp.EmulateMobile))
	b.is(
		`document.documentElement.scrollWidth <= 390 && figures.front.width < 390 && document.querySelector('#front svg').getBoundingClientRect().width < 390`,
	)
	b.is(`document.querySelector('#table .scroll').scrollWidth <= 390 &&
		document.querySelector('#parallel svg').getBoundingClientRect().width < 390`)
	// The names of the axes do not lie on each other.
	b.is(`(boxes => boxes.length > 2 && boxes.every((a, i) => boxes.every((b, j) => i === j ||
		a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top)))(
		[...document.querySelectorAll('#parallel .strong')].map(e => e.getBoundingClientRect()))`)
	// On paper there are no controls.
	b.do(chromedp.ResetViewport(), media("print", ""))
	b.is(`[...document.querySelectorAll('figcaption input, figcaption select')].every(e => e.offsetParent === null)`)

	// Texts of the study stay texts.
	b.is(`document.querySelectorAll('img').length === 0 && document.title === 'first · peftsearch'`)
	b.is(`document.querySelector('#table').textContent.includes(` + quoted("enqueued:"+hostile) + `)`)
	b.quiet("file://" + path)
}

// faintest names the marks of figures with a contrast below 3 to their panel, with that: what WCAG 1.4.11 asks for.
const faintest = `(() => {
	const rgb = text => text.match(/[\d.]+/g).slice(0, 3).map(Number)
	const light = c => c.map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0)
	const found = new Set()
	for (const mark of document.querySelectorAll('#front svg .dots, #front svg .path, #curves svg .path, ' +
		'#confirmed svg .dots, #growth svg .path, #effects svg .path')) {
		const style = getComputedStyle(mark), panel = rgb(getComputedStyle(mark.closest('figure')).backgroundColor)
		const drawn = rgb(style.stroke).map((v, i) => v * style.opacity + panel[i] * (1 - style.opacity))
		const [high, low] = [light(drawn), light(panel)].sort((a, b) => b - a), contrast = (high + 0.05) / (low + 0.05)
		if (!(contrast >= 3)) found.add(mark.getAttribute('class') + ' ' + contrast.toFixed(2))
	}
	return [...found].join(', ')
})()`

// An interval that two seeds leave open ends where the metric does, and presses no scores together.
func TestWideIntervalsInABrowser(t *testing.T) {
	b := browse(t)
	s := sample("first", 60, 1)
	s.Confirmed[0].Test = studies.NewSample([]float64{0.65, 0.85})
	path := writeTo(t, filepath.Join(t.TempDir(), "r.html"), func(w io.Writer) error { return WritePage(w, views(s)) })
	b.open("file://" + path)
	b.is(`figures.confirmed.targets[0].text.includes('0.7500, 95 % 0.0000 to 1.0000 (2 seeds)')`)
	b.is(`(() => { const ys = figures.front.targets.filter(t => t.stop).map(t => t.y)
		return Math.max(...ys) - Math.min(...ys) > 150 })()`)
	b.is(`[...document.querySelectorAll('path.confirmed')].every(path => {
		const inner = path.getBoundingClientRect(), outer = path.ownerSVGElement.getBoundingClientRect()
		return inner.top >= outer.top && inner.bottom <= outer.bottom && inner.left >= outer.left &&
			inner.right <= outer.right && inner.height + inner.width > 0 })`)
	b.quiet("file://" + path)
}

// Scores of different metrics have axes of their own, and the page says so.
func TestStudiesOfDifferentMetricsInABrowser(t *testing.T) {
	b := browse(t)
	other := sample("second", 80, 2)
	other.Record.Metric = "spearman"
	path := writeTo(t, filepath.Join(t.TempDir(), "r.html"), func(w io.Writer) error {
		return WritePage(w, views(sample("first", 60, 1), other, sample("third", 20, 3)))
	})
	b.open("file://" + path)
	b.is(`figures.growths.box.hidden && figures.fronts.note.textContent.includes('an axis of its own')`)
	b.is(`[...document.querySelectorAll('#fronts svg > g[transform]')]
		.map(g => g.querySelectorAll('.path:not(.axis)').length).join() === '2,1'`)
	b.is(`[...document.querySelectorAll('#fronts svg text')]
		.map(e => e.textContent).filter(n => n === 'accuracy' || n === 'spearman').join() === 'accuracy,spearman'`)
	b.quiet("file://" + path)
}

func TestSeveralStudiesInABrowser(t *testing.T) {
	b := browse(t)
	path := writeTo(t, filepath.Join(t.TempDir(), "r.html"), func(w io.Writer) error {
		return WritePage(w, views(sample("first", 60, 1), sample("second", 80, 2)))
	})
	b.open("file://" + path)
	b.is(
		`!figures.fronts.box.hidden && !figures.growths.box.hidden && document.querySelector('h1').textContent === '2 studies'`,
	)
	b.do(chromedp.Click(`nav button:nth-child(2)`))
	b.is(
		`document.querySelector('#facts h2').textContent === 'second' && document.querySelector('#table .note').textContent === '80 of 80'`,
	)
	b.quiet("file://" + path)
}

func TestTenThousandTrialsInABrowser(t *testing.T) {
	b := browse(t)
	path := writeTo(t, filepath.Join(t.TempDir(), "r.html"), func(w io.Writer) error {
		return WritePage(w, views(sample("long", 10_000, 3)))
	})
	b.open("file://" + path)
	b.is(
		`document.querySelectorAll('#table tbody tr').length === 100 && document.querySelectorAll('#front svg').length === 1`,
	)
	b.quiet("file://" + path)
}

// BenchmarkTenThousandTrialsInABrowser measures the time from the navigation to a page that is ready.
func BenchmarkTenThousandTrialsInABrowser(bench *testing.B) {
	b := browse(bench)
	path := writeTo(bench, filepath.Join(bench.TempDir(), "r.html"), func(w io.Writer) error {
		return WritePage(w, views(sample("long", 10_000, 3)))
	})
	ready := 0.0
	for bench.Loop() {
		b.open("file://" + path)
		ready += eval[float64](b, "performance.now()")
	}
	bench.ReportMetric(ready/float64(bench.N), "ms/ready")
}

// TestAccessibility runs axe-core, which make axe fetches.
func TestAccessibility(t *testing.T) {
	axe, err := os.ReadFile(os.Getenv("PEFTSEARCH_AXE"))
	if err != nil {
		t.Skip("PEFTSEARCH_AXE does not name axe.min.js: make test-page fetches it and runs this")
	}
	b := browse(t)
	path := writeTo(t, filepath.Join(t.TempDir(), "r.html"), func(w io.Writer) error {
		return WritePage(w, views(sample("first", 60, 1), sample("second", 80, 2)))
	})
	for _, look := range []struct {
		scheme string
		width  int64
	}{{"light", 1300}, {"dark", 1300}, {"light", 390}} {
		b.do(media("", look.scheme), chromedp.EmulateViewport(look.width, 900))
		b.open("file://" + path)
		eval[bool](b, string(axe)+";true")
		var found []struct {
			ID, Impact, Help string
			Nodes            []struct{ HTML string }
		}
		eval[bool](b, `axe.run().then(r => { window.faults = JSON.stringify(r.violations) }), true`)
		b.is(`window.faults`)
		if err := json.Unmarshal([]byte(eval[string](b, `window.faults`)), &found); err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			report := t.Errorf
			if f.Impact != "serious" && f.Impact != "critical" {
				report = t.Logf
			}
			report("%v: %s, %s: %d, such as %.200s", look, f.Impact, f.Help, len(f.Nodes), f.Nodes[0].HTML)
		}
	}
}

func number(n int) string { return quoted(n) }

func quoted(v any) string {
	encoded, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(encoded)
}
