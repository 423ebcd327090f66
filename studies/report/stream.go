package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"reflect"

	"peftsearch/data/quote"
	"peftsearch/studies/store"
)

// WriteStudy prints a study with all of its fronts and trials, some in memory at a time. at is a snapshot.
func WriteStudy(ctx context.Context, w io.Writer, at *store.Store, record *store.Record) error {
	document, err := ReadStudy(ctx, at, record)
	if err != nil {
		return err
	}
	if err := writeOpen(w, document, ""); err != nil {
		return err
	}
	if err := writeList(w, "fronts", store.Pages(1, func(first, last int64) ([]store.FrontPoint, error) {
		return at.Fronts(ctx, record, first, last)
	}), func(f store.FrontPoint) any { return FrontAfter(f) }); err != nil {
		return err
	}
	if err := writeList(w, "trials", at.Walk(ctx, record, false),
		func(t store.Trial) any { return NewTrialEntry(record, t) }); err != nil {
		return err
	}
	_, err = io.WriteString(w, "\n}\n")
	return err
}

// WriteViews prints views, a column of trials at a time. The page reads the same document.
func WriteViews(w io.Writer, v Views) error {
	out := bufio.NewWriter(w) // which keeps the first error of a write
	if err := writeOpen(out, v.viewsHead, ""); err != nil {
		return err
	}
	fmt.Fprint(out, ",\n  \"studies\": [")
	for i, s := range v.Studies {
		if i > 0 {
			fmt.Fprint(out, ",")
		}
		fmt.Fprint(out, "\n    ")
		if err := writeOpen(out, s.viewHead, "    "); err != nil {
			return err
		}
		if err := writeColumns(out, s.Trials); err != nil {
			return err
		}
	}
	fmt.Fprint(out, "\n  ]\n}\n")
	return out.Flush()
}

// writeOpen prints a document without its end.
func writeOpen(w io.Writer, document any, indent string) error {
	encoded, err := json.MarshalIndent(document, indent, "  ")
	if err != nil {
		return fmt.Errorf("encoding JSON: %w", err)
	}
	_, err = w.Write(quote.JSON(bytes.TrimSuffix(encoded, []byte("\n"+indent+"}"))))
	return err
}

// writeColumns goes on with the document of a study by its trials, each column in a line, and ends it.
func writeColumns(out *bufio.Writer, t Trials) error {
	before := ",\n      \"trials\": {"
	columns := reflect.ValueOf(t)
	for i := range columns.NumField() {
		encoded, err := json.Marshal(columns.Field(i).Interface())
		if err != nil {
			return fmt.Errorf("encoding JSON: %w", err)
		}
		fmt.Fprintf(out, "%s\n        %q: %s", before, columns.Type().Field(i).Tag.Get("json"), quote.JSON(encoded))
		before = ","
	}
	fmt.Fprint(out, "\n      }\n    }")
	return nil
}

// writeList goes on with a document by a list.
func writeList[T any](w io.Writer, key string, rows iter.Seq2[T, error], entry func(T) any) error {
	if _, err := fmt.Fprintf(w, ",\n  %q: [", key); err != nil {
		return err
	}
	before, after := "\n    ", "]"
	for row, err := range rows {
		if err != nil {
			return err
		}
		encoded, err := json.MarshalIndent(entry(row), "    ", "  ")
		if err != nil {
			return fmt.Errorf("encoding JSON: %w", err)
		}
		if _, err := w.Write(append([]byte(before), quote.JSON(encoded)...)); err != nil {
			return err
		}
		before, after = ",\n    ", "\n  ]"
	}
	_, err := io.WriteString(w, after)
	return err
}
