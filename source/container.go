package source

import "fmt"

// Validate checks all of a new container.
func (c NewContainer) Validate() error {
	if err := ValidateName(c.Name); err != nil {
		return err
	}
	if err := ValidateConfig(c.Config); err != nil {
		return err
	}
	if err := ValidateDevices(c.Devices); err != nil {
		return err
	}
	if c.PID < 0 {
		return fmt.Errorf("%w pid %d: use the pid of the container's init, or leave it out", ErrInvalid, c.PID)
	}
	return validateCgroup(c.Cgroup)
}

// Validate checks the form of a bind request; whether the process can be a container is for the [Binder].
func (r BindRequest) Validate() error {
	if r.PID <= 0 {
		return fmt.Errorf("%w pid %d: use the pid of the container's init as the host sees it", ErrInvalid, r.PID)
	}
	return validateCgroup(r.Cgroup)
}

// Validate checks image options.
func (o ImageOptions) Validate() error {
	switch o.Type {
	case "", TypeContainer, TypeVirtualMachine:
		return nil
	}
	return fmt.Errorf("%w image type %s: use %s or %s", ErrInvalid, quote(o.Type), TypeContainer, TypeVirtualMachine)
}

func validateCgroup(path string) error {
	switch {
	case len(path) > MaxCgroupLen:
		return fmt.Errorf("cgroup path %s is %w: %d bytes, at most %d", quote(path), ErrTooLarge, len(path), MaxCgroupLen)
	case !isLine(path):
		return fmt.Errorf("%w cgroup path %s: use UTF-8 text without control characters", ErrInvalid, quote(path))
	}
	return nil
}
