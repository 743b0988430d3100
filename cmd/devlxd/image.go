package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"devlxd/admin/client"
	"devlxd/source"
)

func newImageCommand() *cobra.Command {
	return parent("image", "Import and list the images that guests may export", imageImport(), imageList(), imageRemove())
}

func imageImport() *cobra.Command {
	cmd := &cobra.Command{Use: "import FILE [ROOTFS]", Short: "Import a unified image, or metadata and root file system of a split one",
		Example: "  devlxd image import alpine.tar.xz --public"}
	var o client.ImageOptions
	cmd.Flags().BoolVar(&o.Public, "public", false, "offer it to guests")
	cmd.Flags().BoolVar(&o.Cached, "cached", false, "offer it to guests, as an image from a remote server")
	kind := choiceFlag(cmd, "type", "", source.TypeContainer, "what it is an image of: ", source.TypeContainer, source.TypeVirtualMachine)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		o.Type = *kind
		meta, err := openImage(args[0])
		if err != nil {
			return err
		}
		defer meta.Close()
		var rootfs io.Reader
		if len(args) == 2 {
			f, err := openImage(args[1])
			if err != nil {
				return err
			}
			defer f.Close()
			rootfs = f
		}
		image, err := c.ImportImage(cmd.Context(), meta, rootfs, o)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), image.Fingerprint)
		return err
	})
}

// openImage opens a file of an image.
func openImage(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot read the image: %w: give the path of a file that this user can read", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("cannot read the image: %s is a directory: give the path of a file", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

func imageList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List images"}
	format := formatFlag(cmd, formatTable)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		images, err := c.Images(cmd.Context())
		if err != nil {
			return err
		}
		t := &table{head: []string{"fingerprint", "type", "public", "cached", "size"}}
		for _, i := range images {
			t.add(i.Fingerprint, i.Type, strconv.FormatBool(i.Public), strconv.FormatBool(i.Cached), strconv.FormatInt(i.Size+i.RootfsSize, 10))
		}
		return show(cmd, *format, images, t)
	})
}

func imageRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove FINGERPRINT", Short: "Remove an image"}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.RemoveImage(cmd.Context(), args[0])
	})
}
