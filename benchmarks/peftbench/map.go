package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"

	"peftsearch/evaluator"
	"peftsearch/space"
	"peftsearch/studies"
)

// makeMap makes a map of records on one model with one way of training.
func makeMap(name, out string, paths []string) error {
	m := &studies.Map{Version: studies.MapVersion, Name: name, TrainingVersion: evaluator.TrainingVersion}
	at := map[string]int{}
	for i, path := range paths {
		table, trials, err := readRecord(path)
		if err != nil {
			return err
		}
		if table.Version != evaluator.TrainingVersion {
			return fmt.Errorf("%s was trained by version %d of peftsearch-worker, this is %d: record it again", path,
				table.Version, evaluator.TrainingVersion)
		}
		var dimensions []studies.MapDimension
		for _, d := range table.Dimensions {
			dimensions = append(dimensions, studies.MapDimension(d))
		}
		if i == 0 {
			m.Model, m.Training, m.Dimensions = table.Fingerprint.Model, table.Training, dimensions
		} else if m.Model != table.Fingerprint.Model || !reflect.DeepEqual(m.Training, table.Training) ||
			!reflect.DeepEqual(m.Dimensions, dimensions) {
			return fmt.Errorf("%s has another model, training or space than %s", path, paths[0])
		}
		m.Tasks = append(m.Tasks, studies.MapTask{Name: table.Study, Metric: table.Metric,
			Scores: make([]*float64, len(m.Points))})
		task := &m.Tasks[i]
		trained := map[int]float64{}
		for _, t := range trials {
			if t.Failure != nil {
				continue
			}
			point, known := at[key(t.Point)]
			if !known {
				point, at[key(t.Point)] = len(m.Points), len(m.Points)
				m.Points = append(m.Points, t.Point)
				for j := range m.Tasks {
					m.Tasks[j].Scores = append(m.Tasks[j].Scores, nil)
				}
			}
			if task.Scores[point] == nil {
				task.Scores[point] = new(float64)
			}
			trained[point]++
			*task.Scores[point] += (t.Score - *task.Scores[point]) / trained[point]
		}
		for _, score := range task.Scores {
			if score != nil {
				*score = round(*score)
			}
		}
	}
	if len(m.Tasks) == 0 || name == "" || out == "" {
		return errors.New("a map takes a name, a file and records")
	}
	file, err := os.Create(out)
	if err != nil {
		return err
	}
	return errors.Join(m.Write(file), file.Close())
}

func key(p space.Point) string { return fmt.Sprint(p) }
