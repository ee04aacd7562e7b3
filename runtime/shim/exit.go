package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/dhow-project/dhow/runtime"
	"github.com/dhow-project/dhow/runtime/shim/wire"
)

// ReadExit reads how the container of dir ended. ErrNotFound: it has not, or
// its shim was killed.
func ReadExit(dir string) (Exit, error) {
	var x Exit
	err := readJSON(filepath.Join(dir, exitFile), &x)
	return x, err
}

// ReadConfig reads what the shim of dir was launched with.
func ReadConfig(dir string) (Config, error) {
	var c Config
	err := readJSON(filepath.Join(dir, configFile), &c)
	var torn *json.SyntaxError
	if errors.As(err, &torn) && livePid(dir) == 0 {
		// The file is whole before the shim is started: a launcher was killed while it wrote.
		return c, fmt.Errorf("%s is torn, no shim was started with it: %w", filepath.Join(dir, configFile), runtime.ErrNotFound)
	}
	return c, err
}

func readJSON(path string, v any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: %w", path, runtime.ErrNotFound)
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// writeExit writes exit.json in one step.
func writeExit(dir string, x Exit) error {
	b, err := json.Marshal(x)
	if err != nil {
		return err
	}
	tmp := filepath.Join(dir, exitFile+".tmp")
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, exitFile))
}

func exitOf(m wire.ExitMsg) Exit {
	return Exit{Code: int(m.Code), Signal: int(m.Signal), OOMKilled: m.OOMKilled, At: m.At, Error: m.Error}
}
