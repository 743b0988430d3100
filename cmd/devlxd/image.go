package main

import (
	"fmt"
	"io"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"devlxd/admin/client"
)

func newImageCommand() *cobra.Command {
	return parent("image", "Import and list the images that guests may export", imageImport(), imageList(), imageRemove())
}

func imageImport() *cobra.Command {
	cmd := &cobra.Command{Use: "import FILE [ROOTFS]", Short: "Import a unified image, or metadata and root file system of a split one",
		Args: cobra.RangeArgs(1, 2), Example: "  devlxd image import alpine.tar.xz --public"}
	var o client.ImageOptions
	cmd.Flags().BoolVar(&o.Public, "public", false, "offer it to guests")
	cmd.Flags().BoolVar(&o.Cached, "cached", false, "offer it to guests, as an image from a remote server")
	cmd.Flags().StringVar(&o.Type, "type", "", "container or virtual-machine (default: container)")
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		meta, err := os.Open(args[0])
		if err != nil {
			return err
		}
		defer meta.Close()
		var rootfs io.Reader
		if len(args) == 2 {
			f, err := os.Open(args[1])
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

func imageList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List images", Args: cobra.NoArgs}
	format := formatFlag(cmd)
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, _ []string) error {
		images, err := c.Images(cmd.Context())
		if err != nil {
			return err
		}
		t := table{head: []string{"fingerprint", "type", "public", "cached", "size"}}
		for _, i := range images {
			t.add(i.Fingerprint, i.Type, strconv.FormatBool(i.Public), strconv.FormatBool(i.Cached), strconv.FormatInt(i.Size+i.RootfsSize, 10))
		}
		return t.print(cmd, *format)
	})
}

func imageRemove() *cobra.Command {
	cmd := &cobra.Command{Use: "remove FINGERPRINT", Short: "Remove an image", Args: cobra.ExactArgs(1)}
	return clientCommand(cmd, func(cmd *cobra.Command, c *client.Client, args []string) error {
		return c.RemoveImage(cmd.Context(), args[0])
	})
}
