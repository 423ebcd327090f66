package main

import (
	"context"
	"errors"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
	"github.com/spf13/cobra"

	"peftsearch/studies"
)

func newWatch(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "watch STUDY",
		Short: "Follow a study in the terminal",
		Long: `Show a study in the terminal while it runs, here or elsewhere: every score against the size, the front with
the plan under the cursor, the running trials with their curves. It only reads the database.

←/→ or h/l go along the front, home and end to its ends, q ends.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.completeStudy,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !isTerminal(os.Stdout) || !isTerminal(os.Stdin) {
				return usage(
					"peftsearch show "+args[0]+" prints the study; report --out writes a page",
					"watch needs a terminal",
				)
			}
			db, record, err := g.viewStudy(cmd, args[0])
			if err != nil {
				return err
			}
			defer db.Close()
			watcher := studies.Watch(db, record, nil)
			overview, err := watcher.Look(cmd.Context())
			if err != nil {
				return err
			}
			_, err = g.newProgram(cmd.Context(), &watchModel{overview: overview, cursor: len(overview.Front.Members) - 1,
				keys: "←/→ along the front   home/end   q ends",
				look: func() tea.Msg {
					o, err := watcher.Look(cmd.Context())
					return looked{o, err}
				}}).
				Run()
			if errors.Is(err, tea.ErrInterrupted) {
				return nil
			}
			return err
		},
	}
}

// newProgram makes a view of the whole terminal.
func (g *globals) newProgram(ctx context.Context, model tea.Model, options ...tea.ProgramOption) *tea.Program {
	options = append(options, tea.WithContext(ctx))
	if g.noColor || os.Getenv("NO_COLOR") != "" {
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	return tea.NewProgram(model, options...)
}

// lookTime is how often a study is looked at.
const lookTime = time.Second

// watchModel follows a study.
type watchModel struct {
	overview      *studies.Overview
	look          func() tea.Msg // reads the study: a looked
	trouble       string
	width, height int
	cursor        int
	keys          string
	messages      []string
	interrupt     func() // what Ctrl-C does; nil ends the view, as q does
}

// looked is what a look at the study found.
type looked struct {
	overview *studies.Overview
	err      error
}

func (m *watchModel) Init() tea.Cmd { return m.again() }

func (m *watchModel) again() tea.Cmd {
	return tea.Tick(lookTime, func(time.Time) tea.Msg { return m.look() })
}

func (m *watchModel) Update(message tea.Msg) (tea.Model, tea.Cmd) {
	switch message := message.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = message.Width, message.Height
	case looked:
		m.trouble = ""
		if message.err != nil {
			m.trouble = message.err.Error()
		} else {
			m.take(message.overview)
		}
		return m, m.again()
	case note:
		m.messages = append(m.messages, string(message))
		m.messages = m.messages[max(0, len(m.messages)-3):]
	case tea.KeyPressMsg:
		last := len(m.overview.Front.Members) - 1
		switch key := message.String(); key {
		case "q", "esc", "ctrl+c":
			if m.interrupt == nil {
				return m, tea.Quit
			}
			if key == "ctrl+c" {
				m.interrupt()
			}
		case "left", "h":
			m.cursor = max(m.cursor-1, 0)
		case "right", "l":
			m.cursor = min(m.cursor+1, last)
		case "home":
			m.cursor = 0
		case "end":
			m.cursor = last
		}
	}
	return m, nil
}

// take shows a newer overview; the cursor follows the best, or stays on its trial while that is on the front.
func (m *watchModel) take(o *studies.Overview) {
	if m.cursor >= len(m.overview.Front.Members)-1 {
		m.cursor, m.overview = len(o.Front.Members)-1, o
		return
	}
	chosen := int64(-1)
	if m.cursor >= 0 && m.cursor < len(m.overview.Front.Members) {
		chosen = m.overview.Front.Members[m.cursor].Number
	}
	m.cursor = min(max(m.cursor, 0), len(o.Front.Members)-1)
	for i, member := range o.Front.Members {
		if member.Number == chosen {
			m.cursor = i
		}
	}
	m.overview = o
}

func (m *watchModel) View() tea.View {
	view := tea.NewView("")
	view.AltScreen = true
	if m.width > 0 {
		view.SetContent(
			screen{
				Overview: m.overview,
				width:    m.width,
				height:   m.height,
				cursor:   m.cursor,
				trouble:  m.trouble,
				messages: m.messages,
				keys:     m.keys,
				own:      m.interrupt != nil,
			}.String(),
		)
	}
	return view
}
